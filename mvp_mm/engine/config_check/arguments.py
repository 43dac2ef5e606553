"""Which arguments a class or function takes by name, its base classes' included."""

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
from dataclasses import dataclass
from typing import Any

import mmengine.registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hooks import CheckpointHook
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch import nn

from ...stack import quiet_stack_noise

# Their **kwargs are refused, or passed to no one.
TAKE_NOTHING = (object.__init__, nn.Module.__init__)


@dataclass(frozen=True)
class Arguments:
    """What can be given to a callable by name.

    Args:
        names: The names, with what the signature says of each.
        others: Whether any other name may be read too, for all that can be told.
    """

    names: Mapping[str, inspect.Parameter]
    others: bool = False


UNKNOWN = Arguments({}, others=True)


def registered(kind: Any, scope: str | None = None) -> Callable | None:
    """The class or function that a config's ``type`` stands for.

    Args:
        kind: ``'Name'``, ``'scope.Name'``, the path of an object such as ``'torch.nn.GELU'``, or the object.
        scope: Default scope, such as ``'mmpretrain'``.

    Returns:
        What MMEngine would build; None where there is none, or where the name stands for different things in
        two registries.
    """
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    prefix, _, name = kind.partition('.')
    found: list[Callable] = []
    for root in _roots(prefix if name else scope):
        scopes = {root.scope: root, **root.children}
        if name and prefix in scopes:
            places, wanted = [scopes[prefix]], name
        else:
            places, wanted = [scopes[scope], root] if scope in scopes else [root], kind
        for place in places:
            place.import_from_location()
            if wanted in place.module_dict:
                found.append(place.module_dict[wanted])
                break
    if not found:
        module, _, name = kind.rpartition('.')
        return getattr(sys.modules.get(module), name, None)
    return found[0] if all(one is found[0] for one in found) else None


@functools.cache
def _roots(scope: str | None) -> list[Registry]:
    """MMEngine's registries, and those of a package that are not below one of these."""
    modules = [mmengine.registry]
    if scope in MODULE2PACKAGE:
        with quiet_stack_noise(), contextlib.suppress(ImportError):
            modules.append(importlib.import_module(f'{scope}.registry'))
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Registry)]
    return [registry for registry in found if registry.parent is None]


@functools.cache
def arguments_of(target: Callable) -> Arguments:
    """Which arguments a callable takes by name.

    Where a constructor takes ``**kwargs``, its source tells what becomes of them: those passed on to
    ``super().__init__``, or to another function that can be told, are that one's, and those taken out by
    name are names as well.

    Args:
        target: A class, a function, or a ``functools.partial`` of one.

    Returns:
        The arguments; ``others`` where the source does not tell.
    """
    bound: dict[str, Any] = {}
    if isinstance(target, functools.partial):
        bound, target = target.keywords, target.func
    if inspect.isclass(target):
        found = [vars(base)['__init__'] for base in target.__mro__ if '__init__' in vars(base)]
        return _take(found, target, bound)
    return _take([target], None, bound)


def _take(functions: list[Callable], owner: type | None, bound: dict[str, Any]) -> Arguments:
    """Arguments of the first function, of which the others are what ``super()`` leads to."""
    if not functions or functions[0] in TAKE_NOTHING:
        return Arguments({})
    function, *later = functions
    try:
        function = inspect.unwrap(function)
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return UNKNOWN
    if owner is not None:
        del parameters[0]  # self
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {param.name: param for param in parameters if param.kind in named and param.name not in bound}
    rest = next((param.name for param in parameters if param.kind is inspect.Parameter.VAR_KEYWORD), None)
    if rest is None:
        return Arguments(names)
    others = owner is None and not list(_uses(function, rest))  # a stand-in for what is not installed
    if function is CheckpointHook.__init__:  # which keeps them, and hands them to the runner
        saving = list(inspect.signature(Runner.save_checkpoint).parameters.values())[3:]
        return Arguments({**{param.name: param for param in saving}, **names})
    for use in _uses(function, rest):
        if isinstance(use, str):
            names.setdefault(use, inspect.Parameter(use, inspect.Parameter.KEYWORD_ONLY, default=None))
            continue
        passed_on = _passed_on(use, function, later, owner, bound) if isinstance(use, ast.Call) else UNKNOWN
        names = {**passed_on.names, **names}
        others = others or passed_on.others
    return Arguments(names, others)


def _uses(function: Callable, name: str) -> Iterator[str | ast.Call | None]:
    """What becomes of ``**name``: a key taken out, a call that it is passed to, or None."""
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
        key = None
        if isinstance(parent, ast.Attribute) and parent.attr in ('get', 'pop', 'setdefault'):
            key = parents[parent].args[0] if isinstance(parents[parent], ast.Call) else None
        elif isinstance(parent, ast.Subscript):
            key = parent.slice
        elif isinstance(parent, ast.Compare):
            key = parent.left
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value
        elif isinstance(parent, ast.keyword) and parent.arg is None:
            yield parents[parent]
        elif not isinstance(parent, ast.If | ast.BoolOp | ast.UnaryOp):
            yield None


def _passed_on(
    call: ast.Call, function: Callable, later: list[Callable], owner: type | None, bound: dict[str, Any]
) -> Arguments:
    """Arguments of what is called, without those that the call itself gives."""
    called = ast.unparse(call.func)
    if re.fullmatch(r'super\(.*\)\.__init__', called):
        taken = _take(later, owner, {})
    else:
        target = _named(call.func, {**vars(builtins), **function.__globals__, 'self': owner, **bound})
        if target is None:
            return UNKNOWN
        taken = arguments_of(target)
        if called.startswith('self.'):
            taken = Arguments(dict(list(taken.names.items())[1:]), taken.others)
    in_order = sum(not isinstance(given, ast.Starred) for given in call.args)
    by_name = {keyword.arg for keyword in call.keywords}
    left = list(taken.names.items())[in_order:]
    return Arguments({name: param for name, param in left if name not in by_name}, taken.others)


def _named(node: ast.expr, known: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(_named(node.value, known), node.attr, None)
    return None


@functools.cache
def keys_in_source(classes: tuple[type, ...], name: str, attributes: bool = True) -> frozenset[str]:
    """Keys that the modules of some classes, and of their bases, take out of a dict.

    Args:
        classes: The classes.
        name: What the dict is called there.
        attributes: Whether ``name.key`` counts as well. Default True.

    Returns:
        The keys.
    """
    quoted = r"\s*['\"](\w+)['\"]"
    patterns = [rf'\b{name}(?:\.get\(|\.pop\(|\[){quoted}', rf'{quoted} (?:not )?in (?:self\.)?{name}\b']
    if attributes:
        patterns.append(rf'\b{name}\.(?!get\b|pop\b|items\b|keys\b)(\w+)')
    modules = {sys.modules.get(base.__module__) for cls in classes for base in cls.__mro__}
    found: set[str] = set()
    for module in modules:
        with contextlib.suppress(OSError, TypeError):
            source = inspect.getsource(module)
            found.update(key for pattern in patterns for key in re.findall(pattern, source))
    return frozenset(found)
