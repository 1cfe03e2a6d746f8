"""Executed once, when the build takes the picture of the executable's memory (launcher/embedded.c), with `modules`,
`places`, `warm`, `archive` and `image` as hot.py packs them, and the modules' code as `content`. Loads all modules of
the hot verbs, and leaves begin(), which is where each call begins.
"""

import _imp
import gc
import marshal
import posix
import sys

loaded = sys.modules
asking = []  # the variables of modules that want to know where they are


def load_all():
    """What importing each would do: each stands before those that it imports, and is taken from the end."""
    kind = type(sys)
    while modules:  # noqa: F821
        name, is_package, at, end, asks = modules.pop()  # noqa: F821
        module = loaded[name] = kind(name)
        variables = module.__dict__
        variables["__package__"] = name if is_package else name.rpartition(".")[0]
        variables["__file__"] = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        if is_package:
            variables["__path__"] = []
        if asks or is_package:
            asking.append(variables)
        exec(marshal.loads(content[at:end]), variables)  # noqa: F821


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


def rehearse():
    """Write to what calls write to: in the build, to learn what that is (launcher/profile.h)."""
    names = {"__name__": "rehearsal"}
    exec(rehearsal, names)  # noqa: F821
    names["rehearse"](begin, loaded)


def begin(argv, environment):
    """With sys.argv, and the environment as a list of bytes."""
    sys.argv = argv
    variables = posix.environ
    for word in environment:
        name, equals, value = word.partition(b"=")
        if equals:
            variables.setdefault(name, value)
    if archive:  # noqa: F821
        begin_alone(argv)
    else:
        begin_installed(argv[1].rpartition("/ocirt/")[0])


def begin_installed(base):
    """The package is in this folder."""
    sys.path.append(base)  # the cold modules, and the packages that they need
    for variables in asking:
        variables["__file__"] = f"{base}/{variables['__file__']}"
        if "__path__" in variables:
            variables["__path__"].append(variables["__file__"][:-12])
    enter()


def begin_alone(argv):
    """All is in this executable."""
    if argv[1] == "main" and "--debug" in argv:  # the archive's modules have line numbers
        for name in [name for name in loaded if name.partition(".")[0] == "ocirt" and name != "ocirt._sys"]:
            del loaded[name]
        __import__("ocirt.host.image")
        __import__("ocirt.cli.main")
        loaded["ocirt.host.image"].carried = image  # noqa: F821
        loaded["ocirt.cli.main"].entry()
    enter()


for name in ("ocirt._sys", "_json"):  # linked into the program
    loaded[name] = _imp.create_builtin(Place(name, None))
    _imp.exec_builtin(loaded[name])
load_all()
exec(warm, {"__name__": "warm"})  # noqa: F821
del warm  # noqa: F821
enter = loaded["ocirt.cli.main"].entry
if archive:  # noqa: F821
    finder = {"__name__": "carried"}
    exec(archive, finder)  # noqa: F821
    Archive = finder["Archive"]
    for name, module in loaded.items():
        if name.partition(".")[0] == "ocirt":
            module.__dict__["__loader__"] = Archive
    for variables in asking:
        variables["__file__"] = f"{finder['FOLDER']}{variables['__file__']}"
    loaded["ocirt.host.image"].carried = image  # noqa: F821
    # Nothing else is looked for, and nothing on the host.
    frozen = loaded["_frozen_importlib"]
    sys.meta_path[:] = [frozen.BuiltinImporter, frozen.FrozenImporter, Archive]
    sys.path[:] = []
    sys.path_hooks[:] = []
else:
    sys.meta_path.insert(0, Known)
sys.path_importer_cache.clear()
sys.orig_argv[:] = []
posix.environ.clear()
gc.disable()  # a command is over before a collection would pay
gc.collect()
gc.freeze()
