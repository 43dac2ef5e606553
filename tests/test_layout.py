"""The rooms of the package and the arrows between them, read off its sources."""

import ast
from pathlib import Path

import mvp_mm

PACKAGE = Path(mvp_mm.__file__).parent
# From the ground up. A module imports from its own level or from below it.
LEVELS = (
    ('hardware', 'mmcv_ops', 'registry', 'renamed', 'stack', 'version', 'whole_file', 'wording'),
    ('text', 'weights'),
    ('models',),
    ('datasets',),
    ('engine',),
    ('evaluation', 'export', 'visualization', 'zoo'),
    ('console',),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
OF_A_WHOLE_ROOM = {  # tests that are named after what they show
    *('models/ddp', 'models/golden_losses', 'models/rils/ranks', 'models/target_generators/teacher_matrix'),
    *(
        'datasets/augmentation',
        'datasets/determinism',
        'datasets/one_reader',
        'datasets/sources/shard_training',
    ),
    *('engine/bad_inputs', 'engine/distributed_faults', 'engine/sharded'),
    *('evaluation/zero_shot_configs', 'export/classes', 'export/timm_student', 'visualization/picture_tools'),
    *('console/command_line', 'export/command_line'),
}
NO_NAMES = {'utils.py', 'helpers.py', 'common.py', 'misc.py'}


def sources():
    """Module name to parsed source."""
    found = {}
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
        if '.mim' not in parts:
            name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
            found[name] = (path, ast.parse(path.read_text(encoding='utf-8')))
    return found


SOURCES = sources()


def imports(name, within_functions=True):
    """Modules of the package that a module imports; a name that a package hands on counts as its source."""
    path, tree = SOURCES[name]
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    nodes = ast.walk(tree) if within_functions else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in SOURCES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = package.split('.')[: len(package.split('.')) - node.level + 1]
                base = '.'.join(above + ([node.module] if node.module else []))
            if base not in SOURCES:
                continue
            for alias in node.names:
                below = f'{base}.{alias.name}'
                yield below if below in SOURCES else source_of(base, alias.name)


def source_of(package, name):
    """The module from which a package hands a name on."""
    path, tree = SOURCES[package]
    if path.name != '__init__.py':
        return package
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and any(a.name == name for a in node.names):
            below = f'{package}.{node.module}'
            return source_of(below, name) if below in SOURCES else package
    return package


def room(name):
    return name.split('.')[1] if '.' in name else None


def test_arrows_point_down():
    upward = [
        f'{name} -> {target}'
        for name in SOURCES
        for target in imports(name)
        if room(name) and room(target) and LEVEL[room(target)] > LEVEL[room(name)]
    ]
    assert not upward, 'a lower room imports from a higher one: ' + ', '.join(sorted(set(upward)))


def test_every_room_has_a_level():
    assert {room(name) for name in SOURCES} - {None} == set(LEVEL)


def test_no_import_circle():
    graph = {name: set(imports(name)) - {name} for name in SOURCES}
    done, path = set(), []

    def visit(name):
        if name in path:
            raise AssertionError('import circle: ' + ' -> '.join([*path[path.index(name) :], name]))
        if name not in done:
            path.append(name)
            for target in sorted(graph[name]):
                visit(target)
            path.pop()
            done.add(name)

    for name in sorted(graph):
        visit(name)


def registered_classes(tree):
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                call = decorator.func if isinstance(decorator, ast.Call) else decorator
                if isinstance(call, ast.Attribute) and call.attr == 'register_module':
                    yield node.name
                    break


def test_one_registered_class_a_file():
    wrong = []
    for name, (path, tree) in SOURCES.items():
        classes = list(registered_classes(tree))
        if len(classes) > 1:
            wrong.append(f'{name} registers {classes}')
        if path.name in NO_NAMES:
            wrong.append(f'{name} says nothing by its name')
    assert not wrong, wrong


def test_nobody_sniffs_types_or_class_names():
    """No comparison with a class's name, and no question whether something is one of the students."""
    found = []
    for name, (_, tree) in SOURCES.items():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == 'isinstance'
            ):
                asked = ast.unparse(node.args[1])
                if any(word in asked for word in ('MVPViT', 'CLIP', 'DINO', 'BEiT', 'ImageClassifier')):
                    found.append(f'{name}:{node.lineno} asks for {asked}')
            if isinstance(node, ast.Compare) and any(
                isinstance(side, ast.Attribute) and side.attr == '__name__'
                for side in [node.left, *node.comparators]
            ):
                words = [ast.unparse(side) for side in [node.left, *node.comparators]]
                if any(word.startswith('type(') for word in words):
                    found.append(f'{name}:{node.lineno} compares {words}')
    assert not found, found


def test_tests_mirror_the_package():
    """Every file of tests/test_<room> is named after what it tests: a module, or a room as a whole."""
    tests = Path(__file__).parent
    wrong = []
    for folder in (entry for entry in tests.glob('test_*') if (PACKAGE / entry.name[5:]).is_dir()):
        for path in folder.rglob('test_*.py'):
            parts = [part.removeprefix('test_') for part in path.relative_to(tests).with_suffix('').parts]
            tested = PACKAGE.joinpath(*parts)
            if not (
                tested.is_dir() or tested.with_suffix('.py').is_file() or '/'.join(parts) in OF_A_WHOLE_ROOM
            ):
                wrong.append(f'{path.relative_to(tests)}: no such module in the package')
    assert not wrong, wrong
