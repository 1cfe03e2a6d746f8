"""The main program of hot.bin: load the modules that the verb needs, then ocirt's command line."""

import gc
import sys
from marshal import loads

gc.disable()  # a command is over before a collection would pay
CODES: dict = {}
ORDERS: dict = {}
BASE = sys.argv[1].rpartition("/ocirt/")[0]


def load_all(names):
    """What importing each would do. `names` has every module after those that it imports."""
    modules = sys.modules
    kind = type(sys)
    for name in names:
        is_package, code = CODES[name]
        place = BASE + "/" + name.replace(".", "/")
        module = modules[name] = kind(name)
        variables = module.__dict__
        if is_package:
            variables["__path__"] = [place]
            variables["__package__"] = name
            variables["__file__"] = place + "/__init__.py"
        else:
            variables["__package__"] = name.rpartition(".")[0]
            variables["__file__"] = place + ".py"
        exec(loads(code), variables)


sys.path.append(BASE)  # the cold modules, and the packages that they need
for word in sys.argv[3:]:
    if word in ORDERS:
        load_all(ORDERS[word])
        break
from ocirt.cli.main import entry  # noqa: E402

entry()
