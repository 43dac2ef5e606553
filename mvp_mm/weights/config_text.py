"""Read values out of the text of a config, such as training checkpoints keep; nothing in it is run."""

import ast
from typing import Any


def value_in_config(text: Any, name: str) -> Any:
    """Return what a config's text assigns to ``name`` at its top: literals, also in ``dict(...)``.

    None if it assigns nothing to it, or is no text of a config; ValueError if the value is an expression.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return None
    for statement in statements:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return _value(statement.value)
    return None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords):
            return {keyword.arg: _value(keyword.value) for keyword in keywords}
        case ast.Call(func=ast.Name(id='dict'), args=[ast.Dict() as entries], keywords=[]):
            return _value(entries)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {None if key is None else ast.literal_eval(key): _value(value) for key, value in pairs}
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_value(element) for element in elements]
        case _:
            return ast.literal_eval(node)
