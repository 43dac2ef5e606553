"""Write or check tar shards of images with texts: the same as `mvp-mm shards`."""

from mvp_mm_command import run_tool

if __name__ == '__main__':
    run_tool('shards')
