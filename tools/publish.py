"""Turn a work dir or a checkpoint into an entry of a zoo: the same as `mvp-mm publish`."""

from mvp_mm_command import run_tool

if __name__ == '__main__':
    run_tool('publish')
