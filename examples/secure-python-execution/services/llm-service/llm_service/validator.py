"""What code may say, by its syntax tree. This catches mistakes early and tells the model what to mend; what really confines
the code is the executor's sandbox."""

import ast

LIGHT = frozenset(
    "bisect collections datetime decimal fractions functools hashlib heapq itertools json math operator random re "
    "statistics string textwrap time typing".split()
)
HEAVY = frozenset(["numpy"])

FORBIDDEN = frozenset(
    "__import__ breakpoint compile delattr eval exec exit getattr globals help input locals memoryview open quit setattr "
    "vars".split()
)


def problems(code: str) -> list[str]:
    """Empty when the code may run."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    except ValueError as error:  # a null byte
        return [str(error)]
    found = [(getattr(node, "lineno", 1), what) for node in ast.walk(tree) if (what := problem(node))]
    return [f"line {line}: {what}" for line, what in sorted(found)]


def problem(node: ast.AST) -> str | None:
    match node:
        case ast.Import(names=names):
            return next((it for name in names if (it := module_problem(name.name))), None)
        case ast.ImportFrom(level=0, module=module):
            return module_problem(module)
        case ast.ImportFrom():
            return "a relative import has nothing to be relative to"
        case ast.Name(id=name) if name in FORBIDDEN:
            return f"{name} is not allowed"
        case ast.Attribute(attr=name) | ast.Name(id=name) if is_inner(name) and name != "__name__":
            return f"{name} is Python's own, and not allowed"
    return None


def module_problem(module: str) -> str | None:
    name = module.partition(".")[0]
    return None if name in LIGHT | HEAVY else f"the module {name} is not allowed"


def is_inner(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def modules(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.update(name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(module=str(module)):
                found.add(module.partition(".")[0])
    return found
