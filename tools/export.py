"""Write a student for another library: the same as `mvp-mm export`."""

from mvp_mm_command import run_tool

if __name__ == '__main__':
    run_tool('export')
