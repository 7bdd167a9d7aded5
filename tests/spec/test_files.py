"""Studies in files: what they may be, what a stranger does wrong, and that the caller's process stays as it was."""

import re
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

import etude
from etude.errors import SpecError
from etude.spec import files, script
from etude.spec.study import Study

TASK = """
    import etude, torch
    from torch import nn

    def model():
        return nn.Linear(1, 1)

    x = torch.arange(8.0).reshape(8, 1)

    def make_task(width=1, *, name=""):
        return etude.Task(model=model, train=(x, width * x), val=(x, x), loss=nn.MSELoss(), name=name)
"""
STUDY = TASK + "    study = etude.Study(task=make_task(), recipe={'batch_size': 4}, lrs=[1e-3, 1e-2], epochs=2)\n"
QUICK = "    import etude\n    study = etude.Study.default('quadratic')\n"


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    """Work in a folder of its own, and forget what files read earlier brought."""
    monkeypatch.chdir(tmp_path)
    yield
    script._forget()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def refusal(source, **options):
    """Check that a file is refused in one line, and return it."""
    with pytest.raises(SpecError) as caught:
        files.read(str(source), **options)
    assert "\n" not in str(caught.value)
    assert type(caught.value) is SpecError
    return str(caught.value)


# Python files


def test_a_python_file_has_a_study(tmp_path):
    write(tmp_path / "mine.py", STUDY)
    study = Study.from_file("mine.py")
    assert (study.lrs, study.epochs, study.recipe.batch_size) == ((1e-3, 1e-2), 2, 4)
    assert (study.name, study.task_name, study.source) == ("mine", "model", "mine.py")


def test_another_variable_and_a_function_are_named_behind_a_colon(tmp_path):
    text = STUDY + "    long = study.replace(epochs=9)\n    def make():\n        return study.replace(epochs=7)\n"
    write(tmp_path / "mine.py", text)
    assert [Study.from_file(f"mine.py:{name}").epochs for name in ("study", "long", "make")] == [2, 9, 7]
    assert [Study.from_file(f"mine.py:{name}").name for name in ("study", "long", "make")] == [
        "mine", "mine-long", "mine-make",
    ]  # fmt: skip
    assert Study.from_file("mine.py:make").source == "mine.py:make"


def test_a_name_that_somebody_gave_is_kept(tmp_path):
    write(tmp_path / "mine.py", TASK + "    study = etude.Study(task=make_task(name='mlp'), lrs=[1], epochs=1)\n")
    assert Study.from_file("mine.py").name == "mlp"
    write(tmp_path / "mine.py", TASK + "    study = etude.Study(task=make_task(), name='x', lrs=[1], epochs=1)\n")
    assert Study.from_file("mine.py").name == "x"


def test_a_path_object_in_another_folder_and_an_odd_name_do(tmp_path):
    assert Study.from_file(write(tmp_path / "a b" / "my-study.v2.py", QUICK)).name == "my-study.v2"


def test_the_file_knows_its_name_and_place_and_is_not_main(tmp_path):
    text = QUICK + "    from pathlib import Path\n    Path('seen').write_text(f'{__name__} {__file__}')\n"
    path = write(tmp_path / "deep" / "mine.py", text + "    if __name__ == '__main__': 1 / 0\n")
    Study.from_file("deep/mine.py")
    assert (tmp_path / "seen").read_text() == f"mine {path}"


def test_a_dataclass_with_annotations_as_text_can_be_made_in_it(tmp_path):
    write(
        tmp_path / "mine.py",
        "    from __future__ import annotations\n    from dataclasses import dataclass\n    import etude\n"
        "    @dataclass\n    class Options:\n        width: int = 3\n    study = etude.Study.default('quadratic')\n",
    )
    assert Study.from_file("mine.py").task == "quadratic"


def test_our_own_future_imports_do_not_leak_into_it(tmp_path):
    write(tmp_path / "mine.py", QUICK + "    def f(x: int): ...\n    assert f.__annotations__['x'] is int\n")
    Study.from_file("mine.py")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_a_file_is_read_in_its_own_encoding(tmp_path, encoding):
    cookie = "# -*- coding: latin-1 -*-\n" if encoding == "latin-1" else ""
    text = f"{cookie}import etude\nstudy = etude.Study.default('quadratic').replace(name='été')\r\n"
    (tmp_path / "mine.py").write_bytes(text.encode(encoding))
    assert Study.from_file("mine.py").name == "été"


# TOML files with somebody's own task

TOML = 'task = "{task}"\nlrs = [1e-3]\nepochs = 2\n{options}recipe = {{ batch_size = 4 }}\n'


@pytest.mark.parametrize("task", ["my_task.py:make_task", "my_task:make_task", "deep/my_task.py:make_task"])
def test_a_toml_file_names_a_function_that_makes_the_task(tmp_path, task):
    write(tmp_path / "there" / "deep" / "my_task.py", TASK)
    write(tmp_path / "there" / "my_task.py", TASK)
    write(tmp_path / "there" / "s.toml", TOML.format(task=task, options='task_options = { width = 3, name = "own" }\n'))
    study = Study.from_file("there/s.toml")
    assert (study.name, study.task_name, study.source) == ("s", "own", "there/s.toml")
    assert float(study.task.train.targets[1]) == 3
    assert study.task_options == {"width": 3, "name": "own"}
    assert Study.from_toml("there/s.toml").to_dict() == study.to_dict()


def test_a_module_is_found_in_the_working_directory_too(tmp_path):
    write(tmp_path / "my_task.py", TASK)
    write(tmp_path / "pkg" / "__init__.py", "")
    write(tmp_path / "pkg" / "tasks.py", TASK)
    write(tmp_path / "there" / "s.toml", TOML.format(task="my_task:make_task", options=""))
    assert Study.from_toml("there/s.toml").task_name == "model"
    write(tmp_path / "there" / "s.toml", TOML.format(task="pkg.tasks:make_task", options=""))
    assert Study.from_toml("there/s.toml").task_name == "model"


def test_a_finished_task_does_too_and_is_called_task_if_not_said(tmp_path):
    write(tmp_path / "my_task.py", TASK + "    task = make_task(name='done')\n")
    for name in ("my_task.py", "my_task.py:task", "my_task:task"):
        write(tmp_path / "s.toml", TOML.format(task=name, options=""))
        assert Study.from_toml("s.toml").task_name == "done"


def test_other_task_options_take_the_place_of_the_files(tmp_path):
    write(tmp_path / "my_task.py", TASK)
    write(tmp_path / "s.toml", TOML.format(task="my_task.py:make_task", options='task_options = { name = "a" }\n'))
    study = files.read("s.toml", {"width": 5})
    assert (float(study.task.train.targets[1]), study.task_name, study.task_options) == (5, "model", {"width": 5})
    with pytest.raises(SpecError, match=r"study.task_options: the task was made with them; change them in s\.toml"):
        study.replace(task_options={"width": 6})


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("my_tusk.py:make_task", "", r"my_tusk.py: cannot be read: No such file.*did you mean 'my_task.py'"),
        ("my_tusk:make_task", "", r"study.task: there is no module 'my_tusk' .*; did you mean 'my_task'\?"),
        ("my_task.py:make_tsk", "", r"my_task.py has no 'make_tsk'; did you mean 'make_task'\?"),
        ("my_task:make_tsk", "", r"my_task has no 'make_tsk'; did you mean 'make_task'\?"),
        ("my_task.py:", "", r"has no ''"),
        ("my task:make", "", r'expected a built-in task, "my_task.py:make_task"'),
        (":make", "", r'expected a built-in task, "my_task.py:make_task"'),
        ("my_task.py:fail", "", r"ZeroDivisionError: division by zero \(my_task.py, line 12\)"),
        ("my_task.py:nothing", "", r"expected nothing\(\) to be an etude.Task, got NoneType"),
        ("my_task.py:x", "", r"expected x to be an etude.Task, got Tensor"),
        ("my_task.py:made", "task_options = { a = 1 }\n", r"made is a finished etude.Task"),
        ("my_task.py:make_task", "task_options = { widht = 1 }\n", r"takes no option 'widht'; did you mean 'width'\?"),
        ("my_task.py:nothing", "task_options = { widht = 1 }\n", r"takes no option 'widht'; it takes none"),
        ("my_task.py:needs", "", r"needs\(\) needs 'width'"),
        ("my_task.py:make_task", "task_options = 3\n", r"task_options: expected a table, got int"),
        ("my_task.py:make_task", "task_options = { width = 2020-01-01 }\n", r"task_options: expected text, numbers"),
        ("my_task.py:make_task", 'source = "me"\n', r"study.source: it is the file's own name"),
        ("my_task.py:make_task", 'epoch = "me"\n', r"no field is named 'epoch'; did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_a_task_is_one_line_that_names_the_file(tmp_path, task, options, said):
    more = "    def fail(): 1 / 0\n    def nothing(): ...\n    def needs(width): ...\n    made = make_task()\n"
    write(tmp_path / "my_task.py", TASK + more)
    write(tmp_path / "s.toml", TOML.format(task=task, options=options))
    answer = refusal("s.toml")
    assert answer.startswith("s.toml: ")
    assert re.search(said, answer), answer


def test_a_module_that_needs_another_one_is_not_called_missing_itself(tmp_path):
    write(tmp_path / "my_task.py", "\nimport nowhere_to_be_found\n")
    write(tmp_path / "s.toml", TOML.format(task="my_task:make_task", options=""))
    answer = refusal("s.toml")
    assert answer == "s.toml: ModuleNotFoundError: No module named 'nowhere_to_be_found' (my_task.py, line 2)"


def test_fields_that_a_task_of_ones_own_has_no_default_for_are_missing(tmp_path):
    write(tmp_path / "my_task.py", TASK)
    write(tmp_path / "s.toml", 'task = "my_task.py:make_task"\nlrs = 2\n')
    assert refusal("s.toml") == "s.toml: study.epochs is missing"


# What a stranger does wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nlrs = [1e-3,\n", r"^mine.py, line 2: not valid Python: .*: lrs = \[1e-3,$"),
        ("x = 1\0", r"^mine.py.*: not valid Python: .*null"),
        ("\n1 / 0\n", r"^mine.py: ZeroDivisionError: division by zero \(mine.py, line 2\); `python mine.py` shows"),
        ("raise KeyError", r"^mine.py: KeyError \(mine.py, line 1\)"),
        ("raise ValueError('a\\nb\\n   c')", r"ValueError: a b c \(mine.py, line 1\)"),
        ("raise ValueError('x' * 10**6)", r"ValueError: x{100,}… \(mine.py, line 1\)"),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E", r"^mine.py: E \(mine.py, line 3\)"),
        ("class E(BaseException): ...\nraise E", r"^mine.py: E \(mine.py, line 2\)"),
        ("import nowhere_to_be_found", r"ModuleNotFoundError: No module named 'nowhere_to_be_found' \(mine.py, line 1\)"),
        ("import helper_broken", r"ZeroDivisionError: division by zero \(helper_broken.py, line 2\)"),
        ("import helper_syntax", r"SyntaxError: .*\(helper_syntax.py, line 1\)"),
        ("import sys\nsys.exit()", r"^mine.py: it calls sys.exit\(\w*\) \(mine.py, line 2\); .*__main__"),
        ("import sys\nsys.exit('bye')", r"it calls sys.exit\(bye\)"),
        ("input()", r"EOFError: it reads from standard input, .*\(mine.py, line 1\)"),
        ("import sys\nsys.stdin.read()", r"EOFError: it reads from standard input, .*\(mine.py, line 2\)"),
        ("def f(): f()\nf()", r"RecursionError: .*\(mine.py, line 1\)"),
        ("x = 1", r"no study is named 'study' in it; end it with study = etude.Study\("),
        ("study = 3", r"expected study to be an etude.Study, or a function that returns one; got int"),
        ("def study(): ...", r"expected study\(\) to be an etude.Study, or a function that returns one; got NoneType"),
        ("def study(width): ...", r"study\(\) needs 'width': expected a function that can be called with nothing"),
        ("\ndef study(): 1 / 0", r"ZeroDivisionError: division by zero \(mine.py, line 2\)"),
        ("import etude\nbig = etude.Study.default('digits')", r"no study is named 'study' in it; it has big: .*mine.py:big"),
        ("import etude\n\nstudy = etude.Study.default('digitz')", r"did you mean 'digits'\? \(mine.py, line 3\)"),
        ("import etude\nstudy = etude.Study(task='digits',\n lrs='fast', epochs=1)", r"^mine.py: study.lrs: .*, line 2\)"),
        ("import etude\nstudy = etude.Study.default('quadratic')\nstudy.run()", r"study.run: .*while etude reads .*line 3\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line_with_its_own_line(tmp_path, text, said):
    (tmp_path / "helper_broken.py").write_text("\n1 / 0")
    (tmp_path / "helper_syntax.py").write_text("x = = 1")
    (tmp_path / "mine.py").write_text(text)
    answer = refusal("mine.py")
    assert re.search(said, answer), answer
    assert not (tmp_path / "runs").exists()


def test_a_task_is_no_study_and_the_line_to_add_is_said(tmp_path):
    write(tmp_path / "mine.py", TASK + "    study = make_task()\n")
    assert "call it task, and wrap it: study = etude.Study(task=task, lrs=" in refusal("mine.py")
    assert "wrap it: study = etude.Study(task=make_task(), lrs=" in refusal("mine.py:make_task")


def test_the_line_that_is_added_works(tmp_path):
    write(tmp_path / "mine.py", TASK)
    line = re.search(r"study = etude.Study.*", refusal("mine.py:make_task"))[0]
    write(tmp_path / "mine.py", f"{TASK}    {line}\n")
    assert Study.from_file("mine.py").epochs == 5


@pytest.mark.parametrize("source", ["mine.txt", "mine", "", "mine.pyc", "digits"])
def test_what_is_no_study_file_by_its_name_is_refused(source):
    assert "expected a file that ends in .py or .toml" in refusal(source)


def test_a_file_that_is_not_there_offers_the_nearest_or_says_how_to_begin(tmp_path):
    assert refusal("study.py").endswith("there is no Python or TOML file in that folder: `etude init` writes one")
    (tmp_path / "study.py").touch()
    assert refusal("studdy.py").endswith(
        "studdy.py: cannot be read: No such file or directory; did you mean 'study.py'?"
    )
    assert "did you mean 'study.py'?" in refusal("study.toml")
    assert refusal("deep/study.py") == "deep/study.py: cannot be read: No such file or directory"
    (tmp_path / "folder.py").mkdir()
    assert refusal("folder.py") == "folder.py: cannot be read: Is a directory"


@pytest.mark.parametrize("name", ["random", "torch", "etude", "__main__", "numpy"])
def test_a_name_that_hides_a_module_is_refused(tmp_path, name):
    write(tmp_path / f"{name}.py", QUICK)
    before = sys.modules.get(name)
    assert f"hides the module '{name}'" in refusal(f"{name}.py")
    assert sys.modules.get(name) is before


def test_a_python_study_takes_no_task_options_unless_its_task_is_built_in(tmp_path):
    write(tmp_path / "mine.py", STUDY)
    assert 'write a TOML file with task = "mine.py:FUNCTION"' in refusal("mine.py", task_options={"width": 2})
    write(tmp_path / "mine.py", "    import etude\n    study = etude.Study.default('mnist')\n")
    assert files.read("mine.py", {"root": "data"}).task_options == {"root": "data"}


def test_ctrl_c_while_a_file_runs_is_ctrl_c(tmp_path):
    write(tmp_path / "mine.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Study.from_file("mine.py")
    assert not script.running()


# The caller's process


RUDE = """
    import os, sys, warnings
    import helper_of_mine
    sys.path.insert(0, "libs")
    sys.path = ["more", *sys.path]
    import deep_helper
    warnings.filterwarnings("error")
    os.chdir("/")
    sys.argv.append("--mine")
    print("hello")
"""


@pytest.mark.parametrize("end", [QUICK, "    1 / 0\n"], ids=["sound", "broken"])
def test_the_callers_process_is_left_as_it_was(tmp_path, capsys, end):
    write(tmp_path / "there" / "mine.py", RUDE + end)
    write(tmp_path / "there" / "helper_of_mine.py", "")
    write(tmp_path / "libs" / "deep_helper.py", "")

    def surroundings():
        return (sys.path, [*sys.path], sys.argv, [*sys.argv], Path.cwd(), [*warnings.filters], sys.stdin, sys.stdout)

    before = surroundings()
    try:
        Study.from_file("there/mine.py")
    except SpecError:
        assert "1 / 0" in end
    after = surroundings()
    assert after == before
    assert all(was is now for was, now in zip(before, after, strict=True) if was is sys.path or was is sys.argv)
    assert not script.running()
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


def test_no_compiled_file_is_left(tmp_path):
    write(tmp_path / "mine.py", QUICK)
    Study.from_file("mine.py")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_two_folders_may_have_modules_of_the_same_name_and_an_edited_one_is_read_again(tmp_path):
    for place in ("a", "b"):
        write(tmp_path / place / "same.py", f"    NAME = '{place}'\n")
        write(tmp_path / place / "mine.py", QUICK + "    import same\n    study = study.replace(name=same.NAME)\n")
    assert [Study.from_file(f"{place}/mine.py").name for place in ("a", "b", "a")] == ["a", "b", "a"]
    write(tmp_path / "a" / "same.py", "    NAME = 'edited'\n")
    assert Study.from_file("a/mine.py").name == "edited"


def test_a_module_of_the_callers_is_not_forgotten(tmp_path, monkeypatch):
    write(tmp_path / "callers_own.py", "    NAME = 1\n")
    write(tmp_path / "mine.py", QUICK + "    import callers_own\n")
    monkeypatch.syspath_prepend(tmp_path)
    import callers_own

    for _ in range(2):
        Study.from_file("mine.py")
        assert sys.modules["callers_own"] is callers_own
    del sys.modules["callers_own"]


def test_a_file_that_the_caller_has_imported_himself_stays_his(tmp_path, monkeypatch):
    write(tmp_path / "imported.py", STUDY)
    monkeypatch.syspath_prepend(tmp_path)
    import imported

    study = Study.from_file("imported.py")
    assert sys.modules["imported"] is imported
    assert study.task.model is not imported.model
    del sys.modules["imported"]


# Running


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_code_beside_the_file_is_there_while_it_trains_also_in_worker_processes(tmp_path, executor):
    """At once, in a class; late, in a function; and below a folder that the file put on the path."""
    write(tmp_path / "there" / "nets.py", "    from torch import nn\n    class Net(nn.Linear): ...\n")
    write(tmp_path / "there" / "late.py", "    def bias(): return True\n")
    write(tmp_path / "there" / "libs" / "losses.py", "    def loss(a, b): return ((a - b) ** 2).mean()\n")
    text = """
        import sys, etude, torch
        from pathlib import Path
        import nets
        from nets import Net
        sys.path.append(str(Path(__file__).parent / "libs"))

        class Mine(Net): ...

        SIZE = 1

        def model():
            import late
            assert issubclass(Mine, nets.Net)
            return Mine(SIZE, 1, bias=late.bias())

        def loss(a, b):
            import losses
            return losses.loss(a, b)

        x = torch.arange(8.0).reshape(8, 1)
        study = etude.Study(
            task=etude.Task(model=model, train=(x, x), val=(x, x), loss=loss), recipe={"batch_size": 4},
            lrs=[1e-3, 1e-2], epochs=2,
        )
    """
    write(tmp_path / "there" / "mine.py", text)
    study = Study.from_file("there/mine.py")
    before = [*sys.path]
    result = study.run("run", executor=executor, workers=2)
    assert result.counts == {"completed": 2}
    assert sys.path == before
    assert study.replace(lrs=[0.1]).run("run", executor=executor).counts == {"completed": 3}
    script._forget()
    assert not {"nets", "late", "losses", "mine"} & {*sys.modules}


def test_a_study_read_before_another_one_of_the_same_name_still_trains_as_itself(tmp_path):
    for place, width in (("a", 2), ("b", 3)):
        write(tmp_path / place / "size.py", f"    WIDTH = {width}\n")
        text = STUDY.replace("nn.Linear(1, 1)", "nn.Sequential(nn.Linear(1, size.WIDTH), nn.Linear(size.WIDTH, 1))")
        write(tmp_path / place / "mine.py", "    import size\n" + text)
    first, second = Study.from_file("a/mine.py"), Study.from_file("b/mine.py")
    for study, width in ((first, 2), (second, 3)):
        result = study.run(f"run{width}", executor="processes", workers=2)
        assert result.counts == {"completed": 2}
        assert study.make_task().model()[0].out_features == width


def test_the_source_is_stored_offered_and_not_compared(tmp_path):
    write(tmp_path / "mine.py", STUDY)
    result = Study.from_file("mine.py").run("run", executor="inline")
    assert result.study["source"] == "mine.py"
    assert result.recommendation.next_command.startswith("etude resume run --study mine.py")
    write(tmp_path / "moved.py", STUDY)
    again = Study.from_file("moved.py:study").run("run", executor="inline")
    assert again.study["source"] == "moved.py:study"
    assert again.counts == {"completed": 2}


def test_a_study_made_in_python_keeps_its_own_command(tmp_path):
    write(tmp_path / "mine.py", STUDY)
    read = Study.from_file("mine.py")
    made = etude.Study(task=read.task, recipe=read.recipe, lrs=[1e-3], epochs=2)
    assert made.source == ""
    assert made.run("run", executor="inline").recommendation.next_command.startswith("study.")
    assert read.replace(task="quadratic").source == ""
