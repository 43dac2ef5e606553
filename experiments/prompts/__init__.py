"""CoOp and CoCoOp against hand-written prompts on the embedded scenes, from base to new classes."""
