"""Where code runs: light code in the executor itself, heavy code in a Kubernetes Job."""

import ast
from dataclasses import dataclass
from typing import Literal

from .validator import HEAVY, modules

MANY = 20_000_000  # rounds of a loop, which take some seconds
DEEP = 3  # loops in one another


@dataclass(frozen=True)
class Route:
    to: Literal["light", "heavy"]
    reason: str


def route(code: str) -> Route:
    tree = ast.parse(code)
    if heavy := sorted(modules(tree) & HEAVY):
        return Route("heavy", f"it uses {', '.join(heavy)}")
    rounds, depth = loops(tree)
    if rounds > MANY:
        return Route("heavy", f"its loops have {rounds} rounds")
    if depth >= DEEP:
        return Route("heavy", f"it has {depth} loops in one another")
    return Route("light", "it is short")


def loops(node: ast.AST) -> tuple[int, int]:
    """The rounds of the loops below, as far as they are written down, and how deep they are."""
    inner = [loops(child) for child in ast.iter_child_nodes(node)]
    rounds, depth = max((it[0] for it in inner), default=1), max((it[1] for it in inner), default=0)
    match node:
        case ast.For(iter=over) | ast.comprehension(iter=over):
            return rounds * length(over), depth + 1
        case ast.While():
            return rounds, depth + 1
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            total = 1
            for generator in node.generators:
                total *= length(generator.iter)
            return max(rounds, total), max(depth, len(node.generators))
    return rounds, depth


def length(over: ast.expr) -> int:
    """Of `range` with numbers; of all else nothing is known."""
    match over:
        case ast.Call(func=ast.Name(id="range"), args=arguments):
            try:
                return len(range(*(int(ast.literal_eval(it)) for it in arguments))) or 1
            except (ValueError, TypeError, OverflowError):
                return 1
    return 1
