"""Download the published weights of models by name: the same as `mvp-mm download`."""

from mvp_mm_command import run_tool

if __name__ == '__main__':
    run_tool('download')
