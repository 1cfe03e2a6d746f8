"""Templates after --format: what docker's users write, checked against what Go's text/template prints."""

from __future__ import annotations

import pytest

from ocirt.manager.cli import output
from ocirt.manager.cli.template_functions import TemplateError
from ocirt.manager.cli.templates import Template

DOCUMENT = {
    "Id": "abc",
    "Name": "/web",
    "State": {"Status": "running", "ExitCode": 0, "Paused": False},
    "Config": {"Labels": {"com.example.x": "1", "plain": "p"}, "Env": ["A=1", "B=2"], "Cmd": None},
    "Mounts": [{"Source": "/a", "Destination": "/b", "RW": True}, {"Source": "/c", "Destination": "/d", "RW": False}],
    "NetworkSettings": {"Networks": {"none": {"IPAddress": ""}, "lan": {"IPAddress": "10.0.0.1"}}},
    "Size": 1234567,
}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{.State.Status}}", "running"),
        ("{{ .State.Status }}:{{.State.ExitCode}}", "running:0"),
        ("{{json .State}}", '{"Status":"running","ExitCode":0,"Paused":false}'),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[com.example.x:1 plain:p]"),
        ("{{.Config.Labels.plain}} {{.Config.Labels.nope}}", "p <no value>"),
        ('{{index .Config.Labels "com.example.x"}}', "1"),
        ('[{{index .Config.Labels "nope"}}]', "[]"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{(index .Mounts 0).Source}}", "/a"),
        ("{{range .Mounts}}{{.Source}}->{{.Destination}};{{end}}", "/a->/b;/c->/d;"),
        ("{{range $i, $m := .Mounts}}{{if $i}},{{end}}{{$m.Source}}{{end}}", "/a,/c"),
        ("{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}} {{end}}", "lan=10.0.0.1 none= "),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{if .State.Paused}}a{{else if eq .State.Status `running`}}b{{else}}c{{end}}", "b"),
        ("{{if and .State.Status (not .State.Paused)}}yes{{end}}", "yes"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}no check{{end}}", "no check"),
        ("{{with .State}}{{.Status}} {{$.Id}}{{end}}", "running abc"),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ("{{len .Mounts}} {{upper .State.Status}} {{.Id | upper | printf `%-5s|`}}", "2 RUNNING ABC  |"),
        ('{{printf "%.3s %d %q %v" .State.Status .Size .Id .Config.Env}}', 'run 1234567 "abc" [A=1 B=2]'),
        ("{{slice .Name 1}} {{ne .Id `x`}} {{gt .Size 5}}", "web true true"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("a\n{{- if true}} b {{- end}}", "a b"),
        ("{{$x := .Id}}{{$x}}{{$x = .Name}}{{$x}}", "abc/web"),
        ('{{range split "a,b" ","}}<{{.}}>{{end}}', "<a><b>"),
        ("{{println .Id}}", "abc\n"),
        ('{{"}}"}}', "}}"),
        ("{{.}}", None),
    ],
)
def test_templates(template: str, wanted: str | None) -> None:
    rendered = Template(template).render(DOCUMENT)
    assert rendered == wanted if wanted is not None else rendered.startswith("map[Config:map[")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Nope}}", "there is no .Nope; there are Id, Name"),
        ("{{.State.Health.Status}}", "there is no .Health"),
        ("{{.Id", "has no }}"),
        ("{{if .Id}}x", "no {{end}}"),
        ("{{end}}", "belongs to nothing"),
        ("{{nope .Id}}", "there is no function nope"),
        ("{{index .Mounts 9}}", "out of range"),
        ("{{lt .Id 1}}", "two kinds"),
        ("{{$x}}", "was not declared"),
        ("{{template `x`}}", "not known here"),
        ("{{.Id .Name}}", "no function"),
        ('{{"a}}', "has no }}"),
        ("{{.Id | }}", "nothing is in it"),
        ("{{len}}", "wrong arguments"),
    ],
)
def test_mistakes(template: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        Template(template).render(DOCUMENT)


ROWS = [{"ID": "1", "Names": "one"}, {"ID": "234567890123", "Names": "two"}]
COLUMNS = {"ID": "CONTAINER ID", "Names": "NAMES"}


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("", "CONTAINER ID   NAMES\n1              one\n234567890123   two\n"),
        ("table", "CONTAINER ID   NAMES\n1              one\n234567890123   two\n"),
        ("table {{.Names}}\\t{{.ID}}", "NAMES     CONTAINER ID\none       1\ntwo       234567890123\n"),
        ("{{.Names}}", "one\ntwo\n"),
        ("json", '{"ID":"1","Names":"one"}\n{"ID":"234567890123","Names":"two"}\n'),
        ("{{json .}}", '{"ID":"1","Names":"one"}\n{"ID":"234567890123","Names":"two"}\n'),
    ],
)
def test_lists(form: str, wanted: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.listing(ROWS, COLUMNS, form, ("ID", "Names"))
    assert capsys.readouterr().out == wanted


def test_a_table_without_rows_has_its_titles(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing([], COLUMNS, "", ("ID", "Names"))
    assert capsys.readouterr().out == "CONTAINER ID   NAMES\n"


def test_a_field_with_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"Label": {"a": "1"}.get}
    output.listing([row], {}, 'table {{.Label "a"}}', ())
    assert capsys.readouterr().out == "a\n1\n"
