import tomllib

from tests.standard import __main__ as command
from tests.standard import debt
from tests.standard.made import chapter


def test_the_list_only_shrinks():
    now, then = {"measured": {"one": 3, "two": 1, "three": 2}}, {"measured": {"one": 2, "two": 4, "gone": 5}}
    assert debt.renewed(now, then) == {"measured": {"one": 2, "two": 1}}
    assert debt.renewed(now, then, up=True) == now


def test_more_and_fewer_faults_than_listed_both_differ():
    now, then = {"one": 3, "new": 1, "equal": 2}, {"one": 2, "mended": 4, "equal": 2}
    assert list(debt.differences(now, then)) == [("mended", 0, 4), ("new", 1, 0), ("one", 3, 2)]


def test_the_file_says_what_the_list_holds():
    kept = {"measured": {"how-to-read": 2, "vae": 1}, "exercises": {}}
    assert tomllib.loads(debt.written(kept)) == {"measured": {"how-to-read": 2, "vae": 1}}


def test_the_command_takes_off_and_adds_only_when_told_to(tmp_path, monkeypatch, capsys):
    path = tmp_path / "not_yet.toml"
    for name, value in (("LIST", path), ("listed", lambda: debt.listed(path)), ("book", lambda root: made)):
        monkeypatch.setattr(command, name, value)
    made = [chapter("It is 0.5 wide. It is 0.7 high.")]
    assert command.main(["--up"]) == 0 and debt.listed(path) == {"measured": {"two": 2}}
    made = [chapter("It is 0.5 wide.")]
    assert command.main([]) == 0 and debt.listed(path) == {"measured": {"two": 1}}
    made = [chapter("It is 0.5 wide. It is 0.7 high.")]
    assert command.main([]) == 1 and debt.listed(path) == {"measured": {"two": 1}}
    assert "two has 2, the list allows 1" in capsys.readouterr().out
    assert command.main(["two"]) == 0
    assert "cell 1 states '0.7'" in capsys.readouterr().out
