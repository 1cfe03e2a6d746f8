"""The loader of a hot verb: executed with `modules` and `json`, as hot.py packs them; argv[1] is its file."""

import _imp
import marshal
import posix
import sys

base = sys.argv[1].rpartition("/ocirt/")[0]
sys.path.append(base)  # the cold modules, and the packages that they need


def load_all():
    """What importing each would do: each stands before those that it imports, and is taken from the end."""
    loaded = sys.modules
    kind = type(sys)
    while modules:  # noqa: F821  taken out one by one, for their memory to be used again
        name, is_package, code = modules.pop()  # noqa: F821
        place = base + "/" + name.replace(".", "/")
        module = loaded[name] = kind(name)
        variables = module.__dict__
        if is_package:
            variables["__path__"] = [place]
            variables["__package__"] = name
            variables["__file__"] = place + "/__init__.py"
        else:
            variables["__package__"] = name.rpartition(".")[0]
            variables["__file__"] = place + ".py"
        exec(code, variables)


class Later:
    """Finds and loads the modules in later.bin: their code is unpacked when they are imported."""

    file = -1
    index = None

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name[:6] != "ocirt.":
            return None
        if Later.file < 0:
            Later.file = posix.open(base + "/ocirt/hot/later.bin", posix.O_RDONLY | posix.O_CLOEXEC)
            Later.index = marshal.loads(posix.read(Later.file, 8192))
        if name in Later.index:
            return sys.modules["_frozen_importlib"].ModuleSpec(
                name, Later, origin=f"{base}/{name.replace('.', '/')}.py"
            )
        return None

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        place, size = Later.index[module.__name__]
        exec(marshal.loads(posix.pread(Later.file, size, place)), module.__dict__)


class Place:
    """What loading an extension module asks of a module's specification."""

    def __init__(self, name, origin):
        self.name = name
        self.origin = origin


# Both without the import system, which costs 50 µs for the one that is built in, and reads two folders for the other.
place = Place("gc", None)
sys.modules["gc"] = _imp.create_builtin(place)
_imp.exec_builtin(sys.modules["gc"])
sys.modules["gc"].disable()  # a command is over before a collection would pay
if json:  # noqa: F821
    # Its place is known: importing it would read two folders to find that.
    spec = Place("_json", json)  # noqa: F821
    try:
        sys.modules["_json"] = _imp.create_dynamic(spec)
        _imp.exec_dynamic(sys.modules["_json"])
    except ImportError:
        sys.modules.pop("_json", None)
sys.meta_path.insert(0, Later)
load_all()
sys.modules["ocirt.cli.main"].entry()
