"""How the one file (`make dist`) imports what it carries: executed when the picture of its memory is taken. carry.py
makes the archive. Nothing of this is touched by a hot verb.
"""

import _frozen_importlib
import _imp
import marshal
import posix

import _carried

FOLDER = "/proc/self/exe/"


class Archive:
    """Finds and loads the modules in the archive, and gives the files that packages read."""

    memory = None
    index = None  # name of a module or a file → (kind, place, size, size when unpacked)

    @staticmethod
    def entry(name):
        if Archive.index is None:
            Archive.memory = _carried.memory()
            size = int.from_bytes(Archive.memory[:8], "little")
            Archive.index = marshal.loads(Archive.memory[8 : 8 + size])
        return Archive.index.get(name)

    @staticmethod
    def content(name):
        """The bytes of an entry."""
        import zlib

        _kind, at, size, unpacked = Archive.entry(name)
        return zlib.decompress(Archive.memory[at : at + size], -15, unpacked)

    @staticmethod
    def find_spec(name, path=None, target=None):
        entry = Archive.entry(name)
        if entry is None:
            return None
        spec = _frozen_importlib.ModuleSpec(name, Archive, is_package=entry[0] == "package")
        # No file can be there, nor in the working directory, whoever looks.
        spec.origin = FOLDER + name.replace(".", "/") + ("/__init__.py" if entry[0] == "package" else ".py")
        spec.has_location = True
        return spec

    @staticmethod
    def create_module(spec):
        if Archive.entry(spec.name)[0] != "extension":
            return None
        for library in Archive.entry(f"libraries of {spec.name}") or ():
            Archive.load(library, _carried.load)
        return Archive.load(spec.name, lambda path: _imp.create_dynamic(Place(spec.name, path)))

    @staticmethod
    def load(name, how):
        """Load a shared library from memory."""
        fd, path = _carried.file(Archive.content(name))
        try:
            return how(path)
        finally:
            posix.close(fd)

    @staticmethod
    def exec_module(module):
        name = module.__name__
        if Archive.entry(name)[0] == "extension":
            _imp.exec_dynamic(module)
            return
        for library in Archive.entry(f"libraries of {name}") or ():
            Archive.load(library, _carried.load)
        exec(marshal.loads(Archive.content(name)), module.__dict__)

    @staticmethod
    def get_data(path):
        """A file, by its path below FOLDER. Raises OSError if there is none."""
        path = path.removeprefix(FOLDER)
        if (Archive.entry(path) or ("",))[0] != "file":
            raise FileNotFoundError(2, "No such file or directory", path)
        return Archive.content(path)

    @staticmethod
    def get_resource_reader(name):
        return Reader(name.replace(".", "/"))

    @staticmethod
    def find_distributions(context=None):
        return ()


class Place:
    """What loading an extension module asks of a module's specification."""

    def __init__(self, name, origin):
        self.name = name
        self.origin = origin


class Reader:
    """A package's files (importlib.resources.abc.TraversableResources)."""

    def __init__(self, folder):
        self.folder = folder

    def files(self):
        return Resource(self.folder)


class Resource:
    """A file or folder in the archive (importlib.resources.abc.Traversable)."""

    def __init__(self, path):
        self.path = path
        self.name = path.rpartition("/")[2]

    def is_file(self):
        return (Archive.entry(self.path) or ("",))[0] == "file"

    def is_dir(self):
        return any(name.startswith(f"{self.path}/") for name in Archive.index)

    def iterdir(self):
        start = len(self.path) + 1
        names = {name[start:].partition("/")[0] for name in Archive.index if name.startswith(f"{self.path}/")}
        return iter([Resource(f"{self.path}/{name}") for name in sorted(names)])

    def joinpath(self, *parts):
        return Resource("/".join((self.path, *parts)))

    __truediv__ = joinpath

    def read_bytes(self):
        return Archive.get_data(self.path)

    def read_text(self, encoding=None, errors="strict"):
        return self.read_bytes().decode(encoding or "utf-8", errors)

    def open(self, mode="r", encoding=None, errors=None):
        import io

        content = io.BytesIO(self.read_bytes())
        return content if "b" in mode else io.TextIOWrapper(content, encoding=encoding or "utf-8", errors=errors)
