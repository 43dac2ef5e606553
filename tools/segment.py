"""Segment images with a trained model: the same as `mvp-mm segment`."""

from mvp_mm_command import run_tool

if __name__ == '__main__':
    run_tool('segment')
