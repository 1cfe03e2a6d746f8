"""Executed once, when the build takes the picture of the executable's memory (launcher/embedded.c), with `modules`,
`places` and `warm` as hot.py packs them. Loads all modules of the hot verbs, and leaves begin(), which is where each
call begins.
"""

import _imp
import gc
import posix
import sys

loaded = sys.modules
asking = []  # the variables of modules that want to know where they are


def load_all():
    """What importing each would do: each stands before those that it imports, and is taken from the end."""
    kind = type(sys)
    while modules:  # noqa: F821
        name, is_package, code, asks = modules.pop()  # noqa: F821
        module = loaded[name] = kind(name)
        variables = module.__dict__
        variables["__package__"] = name if is_package else name.rpartition(".")[0]
        variables["__file__"] = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        if is_package:
            variables["__path__"] = []
        if asks or is_package:
            asking.append(variables)
        exec(code, variables)


class Place:
    """What loading an extension module asks of a module's specification."""

    def __init__(self, name, origin):
        self.name = name
        self.origin = origin


class Known:
    """Finds extension modules of the standard library where they were: importing them would read two folders first."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in places:  # noqa: F821
            return loaded["_frozen_importlib"].ModuleSpec(name, Known, origin=places[name])  # noqa: F821
        return None

    @staticmethod
    def create_module(spec):
        return _imp.create_dynamic(spec)

    @staticmethod
    def exec_module(module):
        _imp.exec_dynamic(module)


def begin(argv, environment):
    """With sys.argv, and the environment as a list of bytes."""
    sys.argv = argv
    base = argv[1].rpartition("/ocirt/")[0]
    sys.path.append(base)  # the cold modules, and the packages that they need
    for variables in asking:
        variables["__file__"] = f"{base}/{variables['__file__']}"
        if "__path__" in variables:
            variables["__path__"].append(variables["__file__"][:-12])
    variables = posix.environ
    for word in environment:
        name, equals, value = word.partition(b"=")
        if equals:
            variables.setdefault(name, value)
    if "_json" in places:  # noqa: F821
        module = loaded["_json"] = _imp.create_dynamic(Place("_json", places["_json"]))  # noqa: F821
        _imp.exec_dynamic(module)
    enter()


# Linked into the program; the import system looks for none in a package.
loaded["ocirt._sys"] = _imp.create_builtin(Place("ocirt._sys", None))
_imp.exec_builtin(loaded["ocirt._sys"])
load_all()
exec(warm, {"__name__": "warm"})  # noqa: F821
del warm  # noqa: F821
enter = loaded["ocirt.cli.main"].entry
sys.meta_path.insert(0, Known)
sys.path_importer_cache.clear()
posix.environ.clear()
gc.disable()  # a command is over before a collection would pay
gc.collect()
gc.freeze()
