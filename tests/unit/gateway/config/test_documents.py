"""What is said of the configuration is what the program takes: the schema and the README's table are up to date."""

import json
from pathlib import Path

import pytest
import yaml

from gateway.config import documents
from gateway.config.written import Configuration
from gateway.config.written.hints import hint_at

SHIPPED = Path(__file__).parents[4] / "router_config"
COMMAND = "run `python -m gateway.config.documents router_config`"


def test_the_schema_is_up_to_date():
    assert (SHIPPED / "schema.json").read_text() == documents.schema(), COMMAND


def test_the_readme_is_up_to_date():
    readme = (SHIPPED / "README.md").read_text()
    assert readme == documents.with_table(readme), COMMAND


def test_both_are_written_by_one_command(tmp_path):
    (tmp_path / "README.md").write_text(f"before\n{documents.BEGIN}\nSTALE\n{documents.END}\nafter\n")
    documents.write(tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("\nafter\n")
    assert "STALE" not in readme
    assert json.loads((tmp_path / "schema.json").read_text())["properties"].keys() == Configuration.model_fields.keys()


@pytest.mark.parametrize(
    "row",
    [
        "| `server.port` | Port to listen on | `4000` |",
        "| `routes[].timeout.total` | For the whole answer | `10m` |",
        "| `routes[].retry.budget` | Share of the traffic that may be retries | `10%` |",
        "| `workers[].price.input_usd_per_m` | USD per million prompt tokens | required |",
        "| `tenants.NAME.budget.per` | In which time: `day`, `month`, `total` | `month` |",
        "| `models.NAME.versions.NAME.quality` | Measured quality against the unquantized model, 0 to 1 |  |",
    ],
)
def test_the_table_says_key_meaning_and_default(row):
    assert row in documents.key_table().splitlines()


def test_the_schema_writes_defaults_as_people_do():
    definitions = json.loads(documents.schema())["$defs"]
    assert definitions["Timeout"]["properties"]["total"]["default"] == "10m"
    assert definitions["Retry"]["properties"]["budget"]["default"] == "10%"
    assert definitions["Server"]["properties"]["port"]["default"] == 4000
    assert all(definition["additionalProperties"] is False for definition in definitions.values())


def fields(model, path=()):
    for name, field in model.model_fields.items():
        yield (*path, name), field
        below = documents.inside(field.annotation)
        if below is not None:
            yield from fields(below[1], (*path, name, *([0] if below[0] == "[]" else ["x"] if below[0] else [])))


@pytest.mark.parametrize("path", [path for path, _ in fields(Configuration)], ids=str)
def test_every_key_has_a_meaning_and_an_example_that_is_yaml(path):
    """Both stand in messages: the example is what a person is told to write."""
    hint = hint_at(Configuration, path)
    assert hint.description
    assert not hint.description.endswith(".")
    assert list(yaml.safe_load(hint.example)) == [path[-1]] or "${env:" in hint.example
