"""The pages' commands and code run, the page of the command line is whole, and the site is built without a complaint."""

import html
import importlib.util
import re
import subprocess
import sys

import pytest
import typer

from pages import ROOT, carry_out, commands, marked

DOCS = ROOT / "docs"
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if list(marked(path.read_text(encoding="utf-8")))]
MUST = ("tutorial.md", "howto/own-data.md", "howto/reading-a-verdict.md", "howto/resuming.md")


def test_the_pages_that_teach_are_carried_out():
    names = {path.relative_to(DOCS).as_posix() for path in PAGES}
    assert names >= {*MUST}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_what_a_page_says_can_be_done(path, tmp_path, etude_command):
    assert carry_out(path.read_text(encoding="utf-8"), tmp_path, etude_command)


def test_a_page_that_says_what_does_not_work_is_found(tmp_path):
    with pytest.raises(AssertionError, match="no field is named 'lr'"):
        carry_out('<!-- run -->\n```python\nimport etude\netude.Study(task="digits", lr=1, epochs=1)\n```\n', tmp_path)
    with pytest.raises(AssertionError, match="No such option"):
        carry_out("<!-- run -->\n```console\n$ etude show --nonsense\n```\n", tmp_path)
    with pytest.raises(ValueError, match="which is to be changed"):
        carry_out('<!-- run, with "a" for "b" -->\n```python\nprint("c")\n```\n', tmp_path)


def test_blocks_are_carried_out_in_order_in_one_folder(tmp_path):
    page = (
        "<!-- file one.py -->\n```python\nx = 1\n```\nand\n\n<!-- run -->\n```python\nfrom one import x\nprint('a')\n```\n"
        '\n<!-- run, with "+ 1" for "+ 1000" -->\n```python\nprint(x + 1000)\n```\n'
        "\n```python\nthis is not run\n```\n<!-- run -->\n```console\n$ python one.py\n```\n"
    )
    page += "\n<!-- run -->\n```python\nprint(x + 2)\n```\n"
    assert carry_out(page, tmp_path) == ["a\n2\n", "", "3\n"]


def test_every_command_on_any_page_is_one_that_there_is():
    from etude.cli import app

    group = typer.main.get_command(app)
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
            for command in commands(block):
                first, *rest = command.split()
                if first == "etude":
                    assert rest[0] in group.commands, f"{path.name}: {command}"
                    known = {name for one in group.commands[rest[0]].params for name in one.opts}
                    for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", command):
                        assert option in known, f"{path.name}: {command}"


def cli_page():
    """The hook that writes the page when the site is built."""
    path = DOCS / "machinery" / "cli.py"
    spec = importlib.util.spec_from_file_location("machinery_cli", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page()


def test_the_page_of_the_command_line_has_all_commands_and_options():
    from etude.cli import app

    page = cli_page()
    group = typer.main.get_command(app)
    assert len(group.commands) >= 10
    sections = dict(re.findall(r"^## etude (\S+) .*?\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    assert sections.keys() == group.commands.keys()
    for name, command in group.commands.items():
        assert command.help in sections[name]
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert f"`{max(parameter.opts, key=len)}" in sections[name], (name, parameter.name)
                assert parameter.help.replace("|", "\\|") in sections[name]
    assert "| `--executor EXECUTOR` | auto, inline or processes. (`auto`) |" in sections["run"]
    assert "`--quiet`, `-q`" in sections["run"]


def test_the_site_is_built_and_fetches_nothing(tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", ROOT / "mkdocs.yml", "-d", site]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert built.returncode == 0, built.stderr
    fetched = re.compile(r'<(?:script|img|link|iframe)[^>]*?(?:src|href)="(https?:[^"]*)"')
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 25
    for page in pages:
        assert fetched.findall(page.read_text(encoding="utf-8")) == [], page.name
    study = (site / "reference" / "study.html").read_text(encoding="utf-8")
    signature = html.unescape(re.sub(r"<[^>]+>", "", study))
    assert "Annotated" not in signature
    assert re.search(r"Recipe\(\s*\*,\s*optimizer: Any = \"adam\"", signature)
    assert re.search(r"recipe: Recipe = Recipe\(\)", signature)
