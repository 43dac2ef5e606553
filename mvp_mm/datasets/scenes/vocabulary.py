"""What can stand in a scene, and the words for it."""

from PIL.ImageColor import getrgb

# A label map holds 0 for the background and i + 1 for SHAPES[i].
SHAPES = ('circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'arrow')
# Clutter that no caption names and no label map marks; some of it resembles named shapes.
UNNAMED_SHAPES = ('half disc', 'bar', 'corner', 'lens')
COLOURS = {
    'red': (205, 45, 45),
    'orange': (230, 135, 40),
    'yellow': (225, 210, 60),
    'green': (60, 160, 60),
    'cyan': (60, 190, 200),
    'blue': (55, 80, 200),
    'purple': (135, 60, 170),
    'pink': (235, 130, 175),
}
TEXTURES = ('plain', 'striped', 'checked', 'dotted')

CLASSES = ('background', *SHAPES)
# Colours to draw CLASSES with; they have nothing to do with the colours of the objects.
HEX = ('#282828', '#e63c3c', '#f09628', '#ebd73c', '#50b450', '#46bed2', '#4664dc', '#a050c8', '#f08cbe')
PALETTE = tuple(map(getrgb, HEX))
