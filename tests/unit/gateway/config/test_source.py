"""The directory: which files count, how they merge, where each value was written, and what is too much."""

import os

import pytest

from gateway.config.document import MAX_NODES
from gateway.config.source import MAX_FILE_BYTES, MAX_FILES, fingerprint, read


def problems(directory, environ=None):
    return [str(problem).replace(f"{directory}/", "") for problem in read(directory, environ or {}).findings.sorted()]


def test_lists_are_joined_in_the_order_of_file_names_and_names_are_merged(write):
    directory = write(
        {
            "b.yaml": "workers: [{name: second}]\nmodels: {y: {context: 2}}\n",
            "a.yaml": "workers:\n  - {name: first}\nmodels: {x: {context: 1}}\n",
            "c.yaml": "server: {port: 1}\nworkers:\nmodels:\n",
        }
    )
    source = read(directory, {})
    assert source.data == {
        "workers": [{"name": "first"}, {"name": "second"}],
        "models": {"x": {"context": 1}, "y": {"context": 2}},
        "server": {"port": 1},
    }
    assert problems(directory) == []
    assert source.place("workers", 1, "name") == (str(directory / "b.yaml"), 1)
    assert source.place("workers", 0) == (str(directory / "a.yaml"), 2)
    assert source.place("models", "x", "context", "nothing there") == (str(directory / "a.yaml"), 3)


@pytest.mark.parametrize(
    ("first", "second", "line", "wrong"),
    [
        ("models:\n  x: {}\n", "models:\n  y: {}\n  x: {}\n", 3, "`x` is already in `models` at "),
        ("server: {}\n", "\nserver: {}\n", 2, "`server` is already written at "),
        ("state: a\n", "state: b\n", 1, "`state` is already written at "),
        ("workers: []\n", "workers: {}\n", 1, "`workers` is already written at "),
    ],
)
def test_what_stands_in_two_files_is_told_with_both_places(write, first, second, line, wrong):
    directory = write({"a.yaml": first, "b.yaml": second})
    [problem] = read(directory, {}).findings.sorted()
    assert (problem.file, problem.line) == (str(directory / "b.yaml"), line)
    assert problem.message.startswith(wrong + str(directory / "a.yaml") + ":")


def test_only_visible_yaml_files_count(write):
    directory = write({"a.yaml": "state: x\n", ".b.yaml": "state: y\n", "c.yaml~": "state: z\n", "d.json": "{}"})
    assert read(directory, {}).data == {"state": "x"}
    assert problems(directory) == []


def test_a_yml_file_is_pointed_out(write):
    directory = write({"a.yaml": "", "b.yml": "state: x\n"})
    [problem] = problems(directory)
    assert problem.startswith("b.yml:1: warning:")
    assert "rename" in problem


def test_linked_files_are_read_as_a_cluster_mounts_them(tmp_path):
    """A mounted ConfigMap: every file links into a directory that a link names, and that link is what changes."""
    for version in ("one", "two"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_text(f"state: {version}\n")
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    before = fingerprint(tmp_path)
    assert read(tmp_path, {}).data == {"state": "one"}
    (tmp_path / "..new").symlink_to("..two")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert fingerprint(tmp_path) != before
    assert read(tmp_path, {}).data == {"state": "two"}


def test_a_byte_order_mark_is_no_part_of_the_first_key(write):
    directory = write({})
    (directory / "a.yaml").write_bytes(b"\xef\xbb\xbfstate: x\r\n")
    assert read(directory, {}).data == {"state": "x"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "---\n# nothing\n...\n"])
def test_a_file_without_a_key_says_nothing(write, text):
    source = read(write({"a.yaml": text}), {})
    assert (source.data, source.findings.sorted(), source.unread) == ({}, [], False)


@pytest.mark.parametrize(
    ("content", "line", "wrong"),
    [
        (b"a: 1\nb: \xff\n", 2, "0xff is not UTF-8"),
        (b"- a\n", 1, "not a mapping"),
        (b"just words\n", 1, "not a mapping"),
        (b"state: [\n", 1, "not YAML"),
        (b"#" * (MAX_FILE_BYTES + 1), 1, "larger than"),
    ],
)
def test_a_file_that_cannot_be_read_stops_no_other(write, content, line, wrong):
    directory = write({"z.yaml": "server: {}\n"})
    (directory / "a.yaml").write_bytes(content)
    source = read(directory, {})
    [problem] = source.findings.sorted()
    assert (problem.file, problem.line) == (str(directory / "a.yaml"), line)
    assert wrong in problem.message
    assert source.data == {"server": {}}
    assert source.unread


def test_a_directory_that_is_named_like_a_file_is_told(write):
    directory = write({"b.yaml": ""})
    (directory / "a.yaml").mkdir()
    [problem] = problems(directory)
    assert problem.startswith("a.yaml:1: error: cannot be read (it is not a file)")


def test_a_link_to_nothing_is_told_and_seen_when_it_comes(write):
    directory = write({"b.yaml": ""})
    (directory / "a.yaml").symlink_to(directory / "later")
    before = fingerprint(directory)
    assert "cannot be read" in problems(directory)[0]
    (directory / "later").write_text("")
    assert fingerprint(directory) != before


def test_too_many_files_are_not_read(write):
    directory = write({f"{i:03}.yaml": "" for i in range(MAX_FILES + 1)})
    [problem] = read(directory, {}).findings.sorted()
    assert f"{MAX_FILES} are read" in problem.message


def test_no_file_and_no_directory(tmp_path):
    assert "no *.yaml file" in str(problems(tmp_path))
    assert "no such directory" in str(problems(tmp_path / "elsewhere"))


def test_aliases_of_aliases_stay_bounded(write):
    """A billion laughs: each line means ten of the one before."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    directory = write({"a.yaml": "\n".join(lines)})
    source = read(directory, {})
    [problem] = source.findings.sorted()
    assert f"{MAX_NODES} values" in problem.message
    assert len(source.places) <= MAX_NODES


def test_an_aliased_value_has_the_place_where_it_is_written(write):
    directory = write({"a.yaml": "x: &x\n  y: 1\nz: *x\n"})
    source = read(directory, {})
    assert source.data == {"x": {"y": 1}, "z": {"y": 1}}
    assert source.place("z", "y").line == 2
    assert source.place("z").line == 3


def test_secrets_are_resolved_and_remembered_as_such(write):
    directory = write({"a.yaml": 'a: ${env:ONE}\nb: ["x${env:TWO}", plain]\nc: ${env:THREE}\nd: os.environ/FOUR\n'})
    source = read(directory, {"ONE": "1", "TWO": "2"})
    assert source.data["a"] == "1"  # text, whatever it looks like
    assert source.data["b"] == ["x2", "plain"]
    assert source.secret[("a",)] == "${env:ONE}"
    assert [problem.line for problem in source.findings.sorted()] == [3, 4]
    assert source.doubted == {("c",), ("d",)}


def test_the_revision_is_of_names_and_contents(write):
    directory = write({"a.yaml": "state: x\n", "b.yaml": "server: {}\n"})
    first = read(directory, {}).revision
    assert read(directory, {}).revision == first
    (directory / "a.yaml").write_text("state: y\n")
    second = read(directory, {}).revision
    (directory / "a.yaml").rename(directory / "c.yaml")
    assert len({first, second, read(directory, {}).revision}) == 3


def test_the_fingerprint_sees_every_kind_of_change(write):
    directory = write({"a.yaml": "state: x\n"})
    seen = {fingerprint(directory)}
    (directory / "b.yaml").write_text("")
    seen.add(fingerprint(directory))
    (directory / "b.yaml").write_text("#")
    seen.add(fingerprint(directory))
    new = directory / ".new"
    new.write_text("state: y\n")  # of the same size
    os.utime(new, ns=((directory / "a.yaml").stat().st_mtime_ns,) * 2)  # and age
    os.replace(new, directory / "a.yaml")
    seen.add(fingerprint(directory))
    (directory / "b.yaml").unlink()
    seen.add(fingerprint(directory))
    assert len(seen) == 5
