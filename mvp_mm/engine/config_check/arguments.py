"""The arguments that a class or function takes by name, those of its base classes included."""

import ast
import builtins
import contextlib
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import mmengine.registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import nn

from ...stack import quiet_stack_noise

BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Arguments(NamedTuple):
    """Parameters by name, and whether any other name may be read too."""

    names: Mapping[str, inspect.Parameter]
    others: bool = False


UNKNOWN = Arguments({}, others=True)


def registered(kind: Any, scope: str | None = None) -> Callable | None:
    """Find the class or function that MMEngine would build for a config's ``type``.

    It is ``'Name'``, ``'scope.Name'``, an import path such as ``'torch.nn.GELU'``, or the object itself.
    Return None if there is none, or two registries disagree.
    """
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    prefix, _, name = kind.partition('.')
    found: list[Callable] = []
    for root in _roots(prefix if name else scope):
        scopes: dict[str | None, Registry] = {root.scope: root, **root.children}
        places, wanted = [scopes.get(scope, root), root], kind
        if name and prefix in scopes:
            places, wanted = [scopes[prefix]], name
        for place in places:
            place.import_from_location()
            if wanted in place.module_dict:
                found.append(place.module_dict[wanted])
                break
    if not found:
        module, _, name = kind.rpartition('.')
        return getattr(sys.modules.get(module), name, None)
    return found[0] if len(set(found)) == 1 else None


@functools.cache
def _roots(scope: str | None) -> list[Registry]:
    """Return MMEngine's registries, and those of a package that have no parent there."""
    modules = [mmengine.registry]
    if scope in MODULE2PACKAGE:
        with quiet_stack_noise(), contextlib.suppress(ImportError):
            modules.append(importlib.import_module(f'{scope}.registry'))
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Registry)]
    return [registry for registry in found if registry.parent is None]


@functools.cache
def arguments_of(target: Callable) -> Arguments:
    """Return the arguments that a class, function or ``functools.partial`` takes by name.

    Where it takes ``**kwargs`` its source is read: names taken out of them count, and those passed on to
    ``super().__init__`` or another known function are that one's.
    """
    bound: dict[str, Any] = {}
    if isinstance(target, functools.partial):
        bound, target = target.keywords, target.func
    if inspect.isclass(target):
        found = [vars(base)['__init__'] for base in target.__mro__ if '__init__' in vars(base)]
        return _take(found, target, bound)
    return _take([target], None, bound)


def _take(functions: list[Callable], owner: type | None, bound: dict[str, Any]) -> Arguments:
    """Return the arguments of the first function; ``super()`` leads to the others."""
    if not functions or functions[0] in (object.__init__, nn.Module.__init__):  # they read no **kwargs
        return Arguments({})
    try:
        function = inspect.unwrap(functions[0])
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return UNKNOWN
    if owner is not None:
        del parameters[0]  # self
    names = {param.name: param for param in parameters if param.kind in BY_NAME and param.name not in bound}
    rest = next((param.name for param in parameters if param.kind is param.VAR_KEYWORD), None)
    if rest is None:
        return Arguments(names)
    if function is CheckpointHook.__init__:  # hands them to the runner later
        saving = list(inspect.signature(Runner.save_checkpoint).parameters.values())[3:]
        return Arguments({**{param.name: param for param in saving}, **names})
    uses = list(_uses(function, rest))
    others = owner is None and not uses  # a stub of something that is not installed
    for use in uses:
        if isinstance(use, str):
            names.setdefault(use, inspect.Parameter(use, inspect.Parameter.KEYWORD_ONLY, default=None))
            continue
        passed_on = _passed_on(use, function, functions[1:], owner, bound) if use is not None else UNKNOWN
        names = {**names, **passed_on.names, **names}  # own parameters first, which a call fills in order
        others = others or passed_on.others
    return Arguments(names, others)


def _uses(function: Callable, name: str) -> Iterator[str | ast.Call | None]:
    """Yield each use of ``**name``: a key taken out, a call it is passed to, or None for anything else."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        yield None
        return
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Name) and node.id == name):
            continue
        parent = parents[node]
        match parent, parents.get(parent):
            case (
                (ast.Attribute(attr='get' | 'pop' | 'setdefault'), ast.Call(args=[ast.Constant(key), *_]))
                | (ast.Subscript(slice=ast.Constant(key)), _)
                | (ast.Compare(left=ast.Constant(key)), _)
            ):
                yield key if isinstance(key, str) else None
            case ast.keyword(arg=None), ast.Call() as call:
                yield call
            case ((ast.If() | ast.BoolOp() | ast.UnaryOp()), _):
                continue
            case ast.AugAssign(target=target), _ if target is node:  # adds to them
                continue
            case _:
                yield None


def _passed_on(
    call: ast.Call, function: Callable, later: list[Callable], owner: type | None, bound: dict[str, Any]
) -> Arguments:
    """Return the arguments of what is called, without those that the call itself gives."""
    called = ast.unparse(call.func)
    if re.fullmatch(r'super\(.*\)\.__init__', called):
        taken = _take(later, owner, {})
    else:
        known = {**vars(builtins), **getattr(function, '__globals__', {}), 'self': owner, **bound}
        name, *attributes = called.split('.')
        target = functools.reduce(lambda found, part: getattr(found, part, None), attributes, known.get(name))
        if target is None:
            return UNKNOWN
        taken = arguments_of(target)
    in_order = called.startswith('self.') + sum(not isinstance(given, ast.Starred) for given in call.args)
    by_name = {keyword.arg for keyword in call.keywords}
    left = list(taken.names.items())[in_order:]
    return Arguments({name: param for name, param in left if name not in by_name}, taken.others)


@functools.cache
def keys_in_source(classes: tuple[type, ...], name: str, attributes: bool = True) -> frozenset[str]:
    """Return keys that the modules of classes take out of a dict (``name``, a regex), or its attributes."""
    quoted = r"\s*['\"](\w+)['\"]"
    patterns = [rf'\b{name}(?:\.get\(|\.pop\(|\[){quoted}', rf'{quoted} (?:not )?in (?:self\.)?{name}\b']
    if attributes:
        patterns.append(rf'\b{name}\.(?!get\b|pop\b|items\b|keys\b|__)(\w+)')
    found: set[str] = set()
    for module in {base.__module__ for cls in classes for base in cls.__mro__} & sys.modules.keys():
        with contextlib.suppress(OSError, TypeError):
            source = inspect.getsource(sys.modules[module])
            found.update(key for pattern in patterns for key in re.findall(pattern, source))
    return frozenset(found)
