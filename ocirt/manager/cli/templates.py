"""Go templates, as far as people write them after --format: a parser and an evaluator (Go's text/template).

What there is: {{.A.B}}, {{$x := …}}, pipelines, parentheses, if/else if/else, range with else, with, {{- trims -}},
comments, and docker's functions. Anything else is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn

from ocirt.manager.cli import template_functions as functions
from ocirt.manager.cli.template_functions import MISSING, TemplateError, truth, words

Token = tuple[str, str]
"""(kind, text); `tokens` lists the kinds."""
Scope = dict[str, object]
Node = Callable[["Run", object], None]
Value = Callable[["Run", object], object]


class Run:
    """One rendering: what was written, and the variables."""

    def __init__(self, root: object) -> None:
        self.out: list[str] = []
        self.variables: Scope = {"$": root}


class Template:
    """A template that was understood. Raises TemplateError."""

    def __init__(self, text: str) -> None:
        self._nodes = _Parser(text).parse()

    def render(self, value: object) -> str:
        """Raises TemplateError."""
        run = Run(value)
        for node in self._nodes:
            node(run, value)
        return "".join(run.out)


def pieces(text: str) -> Iterator[tuple[bool, str]]:
    """(is it an action?, its text), trimmed as {{- and -}} ask for."""
    trim = False
    while text:
        before, found, text = text.partition("{{")
        begins = found and text[:1] == "-" and text[1:2] in (" ", "\t", "\n", "/")
        before = before.lstrip() if trim else before
        if before := before.rstrip() if begins else before:
            yield False, before
        if not found:
            return
        inside, rest = _action(text[1:] if begins else text)
        trim = inside.endswith((" -", "\t-", "*/-")) or inside == "-"
        yield True, (inside[:-1] if trim else inside).strip()
        text = rest


def _action(text: str) -> tuple[str, str]:
    """Up to the }} that is in no string, and what follows it."""
    quote, at = "", 0
    while at < len(text):
        letter = text[at]
        if quote:
            if letter == "\\" and quote == '"':
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"`'":
            quote = letter
        elif text.startswith("}}", at):
            return text[:at], text[at + 2 :]
        at += 1
    raise TemplateError("a {{ has no }}")


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


def tokens(text: str) -> list[Token]:
    """Of an action: string, number, name, field (without its dot), variable ($ included), mark, and space."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        letter = text[at]
        if letter.isspace():
            found.append(("space", " "))
            at += 1
        elif letter in '"`':
            value, at = _string(text, at)
            found.append(("string", value))
        elif text.startswith(":=", at):
            found.append(("mark", ":="))
            at += 2
        elif letter in "()|,=":
            found.append(("mark", letter))
            at += 1
        elif letter.isdigit() or (letter in "-+" and text[at + 1 : at + 2].isdigit()):
            end = _while(text, at + 1, "_.")
            found.append(("number", text[at:end]))
            at = end
        elif letter == ".":
            end = _while(text, at + 1, "_")
            found.append(("field", text[at + 1 : end]))
            at = end
        elif letter == "$":
            end = _while(text, at + 1, "_")
            found.append(("variable", text[at:end]))
            at = end
        elif letter.isalpha() or letter == "_":
            end = _while(text, at, "_")
            found.append(("name", text[at:end]))
            at = end
        else:
            raise TemplateError(f"{letter!r} has no place in {{{{{text}}}}}")
    return found


def _while(text: str, at: int, also: str) -> int:
    while at < len(text) and (text[at].isalnum() or text[at] in also):
        at += 1
    return at


def _string(text: str, at: int) -> tuple[str, int]:
    quote, at, value = text[at], at + 1, ""
    while at < len(text):
        letter = text[at]
        if letter == quote:
            return value, at + 1
        if letter == "\\" and quote == '"':
            at += 1
            if text[at : at + 1] not in _ESCAPES:
                raise TemplateError(f"\\{text[at : at + 1]} is not known in a string")
            letter = _ESCAPES[text[at]]
        value += letter
        at += 1
    raise TemplateError("a string does not end")


class _Parser:
    def __init__(self, text: str) -> None:
        self._pieces = [piece for piece in pieces(text) if not (piece[0] and piece[1].startswith("/*"))]

    def parse(self) -> list[Node]:
        nodes, ended = self._block()
        if ended:
            raise TemplateError(f"{{{{{ended}}}}} belongs to nothing")
        return nodes

    def _block(self) -> tuple[list[Node], str]:
        """The nodes up to an end or else, and that."""
        nodes: list[Node] = []
        while self._pieces:
            action, text = self._pieces.pop(0)
            if not action:
                nodes.append(_text(text))
                continue
            word, _, rest = text.partition(" ")
            if word in ("end", "else"):
                return nodes, text
            if word in ("if", "with", "range"):
                nodes.append(self._control(word, rest))
            elif word in ("template", "define", "block", "break", "continue"):
                raise TemplateError(f"{{{{{word}}}}} is not known here")
            else:
                nodes.append(_print(text))
        return nodes, ""

    def _control(self, word: str, head: str) -> Node:
        nodes, ended = self._block()
        otherwise: list[Node] = []
        if ended.startswith("else"):
            more = ended[4:].strip()
            if more.startswith("if "):
                otherwise = [self._control("if", more[3:])]
                ended = "end"
            else:
                otherwise, ended = self._block()
        if ended != "end":
            raise TemplateError(f"{{{{{word}}}}} has no {{{{end}}}}")
        return (_range if word == "range" else _condition)(word, head, nodes, otherwise)


def _text(text: str) -> Node:
    def node(run: Run, dot: object) -> None:
        run.out.append(text)

    return node


def _print(text: str) -> Node:
    names, declares, value = pipeline(text)

    def node(run: Run, dot: object) -> None:
        found = value(run, dot)
        if names:
            _assign(run, names[0], found, declares=declares)
        else:
            run.out.append(words(found))

    return node


def _assign(run: Run, name: str, value: object, *, declares: bool) -> None:
    if not declares and name not in run.variables:
        raise TemplateError(f"{name} was not declared")
    run.variables[name] = value


def _condition(word: str, head: str, nodes: list[Node], otherwise: list[Node]) -> Node:
    names, _, value = pipeline(head)

    def node(run: Run, dot: object) -> None:
        found = value(run, dot)
        before = dict(run.variables)
        if names:
            run.variables[names[0]] = found
        holds = truth(found)
        for one in nodes if holds else otherwise:
            one(run, found if holds and word == "with" else dot)
        run.variables = {name: run.variables[name] for name in before}

    return node


def _range(word: str, head: str, nodes: list[Node], otherwise: list[Node]) -> Node:
    names, _, value = pipeline(head)

    def node(run: Run, dot: object) -> None:
        found = value(run, dot)
        before = dict(run.variables)
        entries = functions.entries(found)
        for key, one in entries:
            if names:
                run.variables[names[-1]] = one
            if len(names) == 2:
                run.variables[names[0]] = key
            for inner in nodes:
                inner(run, one)
        if not entries:
            for inner in otherwise:
                inner(run, dot)
        run.variables = {name: run.variables[name] for name in before}

    return node


def pipeline(text: str) -> tuple[list[str], bool, Value]:
    """(variables that it sets, by := or by =, what it is)."""
    found = tokens(text)
    dense = [token for token in found if token[0] != "space"]
    names: list[str] = []
    declares = False
    for count in (2, 1):  # "$key, $value :=", "$value :="
        head = dense[: 2 * count]
        if len(head) == 2 * count and head[-1][1] in (":=", "=") and all(one[0] == "variable" for one in head[::2]):
            names, declares = [one[1] for one in head[::2]], head[-1][1] == ":="
            found = found[found.index(head[-1]) + 1 :]
            break
    reader = _Reader(found, text)
    value = reader.pipeline()
    reader.finish()
    return names, declares, value


class _Reader:
    """One pipeline from its tokens."""

    def __init__(self, found: list[Token], text: str) -> None:
        self._tokens = found
        self._text = text

    def _wrong(self, what: str) -> NoReturn:
        raise TemplateError(f"{{{{{self._text}}}}}: {what}")

    def _spaces(self) -> None:
        while self._tokens and self._tokens[0][0] == "space":
            self._tokens.pop(0)

    def finish(self) -> None:
        self._spaces()
        if self._tokens:
            self._wrong(f"{self._tokens[0][1]!r} is not expected")

    def pipeline(self) -> Value:
        value = self._command(None)
        self._spaces()
        while self._tokens and self._tokens[0] == ("mark", "|"):
            self._tokens.pop(0)
            value = self._command(value)
            self._spaces()
        return value

    def _command(self, piped: Value | None) -> Value:
        """One call: what is called, its arguments, and at the end of them what the pipe brings."""
        operands: list[Value] = []
        self._spaces()
        name = ""
        if self._tokens and self._tokens[0][0] == "name" and self._tokens[0][1] not in ("true", "false", "nil"):
            name = self._tokens.pop(0)[1]
            if name not in functions.TABLE:
                self._wrong(f"there is no function {name}")
            self._spaces()
        while self._tokens and self._tokens[0] not in (("mark", "|"), ("mark", ")")):
            operands.append(self._operand())
            self._spaces()
        if not name and not operands:
            self._wrong("nothing is in it")
        if piped is not None:
            operands.append(piped)
        if name:
            return _call(name, operands)
        first, others = operands[0], operands[1:]
        return _method(first, others) if others else first

    def _operand(self) -> Value:
        kind, text = self._tokens.pop(0)
        value: Value
        if kind == "string":
            value = _constant(text)
        elif kind == "number":
            try:
                value = _constant(float(text) if "." in text else int(text, 0))
            except ValueError:
                self._wrong(f"{text} is not a number")
        elif kind == "name":
            if text not in ("true", "false", "nil"):
                if text not in functions.TABLE:
                    self._wrong(f"there is no function {text}")
                return _call(text, [])
            value = _constant({"true": True, "false": False, "nil": None}[text])
        elif kind == "field":
            value = _field(lambda run, dot: dot, text) if text else lambda run, dot: dot
        elif kind == "variable":
            value = _variable(text)
        elif text == "(":
            value = self.pipeline()
            self._spaces()
            if not self._tokens or self._tokens.pop(0) != ("mark", ")"):
                self._wrong("a ( has no )")
        else:
            self._wrong(f"{text!r} is not expected")
        while self._tokens and self._tokens[0][0] == "field" and self._tokens[0][1]:
            value = _field(value, self._tokens.pop(0)[1])
        return value


def _constant(value: object) -> Value:
    return lambda run, dot: value


def _variable(name: str) -> Value:
    def value(run: Run, dot: object) -> object:
        if name not in run.variables:
            raise TemplateError(f"{name} was not declared")
        return run.variables[name]

    return value


def _field(of: Value, name: str) -> Value:
    return lambda run, dot: functions.field(of(run, dot), name)


def _method(of: Value, arguments: Sequence[Value]) -> Value:
    def value(run: Run, dot: object) -> object:
        found = of(run, dot)
        if not callable(found):
            raise TemplateError("arguments are given to what is no function")
        return found(*(one(run, dot) for one in arguments))

    return value


def _call(name: str, operands: Sequence[Value]) -> Value:
    if name in ("and", "or"):  # the only ones that leave out what decides nothing

        def lazy(run: Run, dot: object) -> object:
            found: object = MISSING
            for one in operands:
                found = one(run, dot)
                if truth(found) is (name == "or"):
                    break
            return found

        return lazy
    function = functions.TABLE[name]

    def value(run: Run, dot: object) -> object:
        arguments = [one(run, dot) for one in operands]
        try:
            return function(*arguments)
        except TypeError as error:
            raise TemplateError(f"{name}: wrong arguments: {error}") from error

    return value


def headings(text: str, names: Mapping[str, str]) -> str:
    """What stands above the columns of a table template: docker's headings for the fields."""
    found = ""
    for action, piece in pieces(text):
        if not action:
            found += piece
            continue
        fields = [value for kind, value in tokens(piece) if kind == "field" and value]
        strings = [value for kind, value in tokens(piece) if kind == "string"]
        if fields[:1] == ["Label"] and strings:
            found += strings[0].rpartition(".")[2]
        elif fields:
            found += names.get(fields[-1], fields[-1].upper())
    return found
