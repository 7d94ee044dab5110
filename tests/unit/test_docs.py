"""What the documents show works, and what they list is complete."""

import json
import re
from pathlib import Path

import pytest

from schemas.events import Reason, Rejection, event_decoder
from schemas.pipeline import parse, template
from schemas.sql_functions import FUNCTIONS
from schemas.task import ESTIMATORS, METRICS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs/operations.md").read_text("utf-8")
TASKS = (ROOT / "docs/tasks.md").read_text("utf-8")
FEATURES = (ROOT / "docs/features.md").read_text("utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_request_in_the_readme_is_one_that_the_pipeline_of_init_takes() -> None:
    body = re.search(r"/v1/predict .* -d '(.*?)'", README, re.DOTALL)
    assert body is not None
    decoder = event_decoder(parse(template("shop")))
    events = json.loads(body[1])["events"]
    assert events
    for event in events:
        assert not isinstance(decoder.decode(json.dumps(event).encode()), Rejection)


def test_the_pipeline_in_the_page_on_features_is_valid_and_the_functions_are_all_there() -> None:
    assert len(parse(FEATURES.split("```yaml\n")[1].split("```")[0]).feature_types) == 8
    listed = FEATURES.split("these functions:")[1].split("- Every number")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(FUNCTIONS)


def test_operations_explains_every_reason_of_a_dead_letter() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| ", OPERATIONS.split("## Dead letters")[1], re.MULTILINE)) == set(Reason)


def test_operations_explains_every_event_that_a_service_logs() -> None:
    sources = [path.read_text("utf-8") for part in ("runtime", "services") for path in (ROOT / part).rglob("*.py")]
    logged = {
        event
        for text in sources
        for event in re.findall(r'\blog\.(?:debug|info|warning|error|critical)\(\s*"(\w+)"', text)
    }
    assert len(logged) > 15
    assert {event for event in logged if f"`{event}`" not in OPERATIONS} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


def test_the_page_on_tasks_shows_a_valid_pipeline_and_all_metrics_and_estimators() -> None:
    assert parse(TASKS.split("```yaml\n")[1].split("```")[0]).metric == "mae"
    for task, names in METRICS.items():
        (row,) = re.findall(rf"^\| `{task}` \|.*$", TASKS, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row.rsplit("|", 2)[1]) == list(names)
    for name in {each for names in ESTIMATORS.values() for each in names}:
        (row,) = re.findall(rf"^\| `{name}` \|.*$", TASKS, re.MULTILINE)
        cells = [cell.strip() == "yes" for cell in row.split("|")[2:5]]
        assert cells == [name in ESTIMATORS[task] for task in METRICS]
