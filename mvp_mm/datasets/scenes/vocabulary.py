"""What can stand in a scene, and the words for it."""

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
PALETTE = (
    (40, 40, 40),
    (230, 60, 60),
    (240, 150, 40),
    (235, 215, 60),
    (80, 180, 80),
    (70, 190, 210),
    (70, 100, 220),
    (160, 80, 200),
    (240, 140, 190),
)
"""Colours to draw CLASSES with; they have nothing to do with the colours of the objects."""
