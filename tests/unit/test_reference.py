"""What is generated from the code is what is committed."""

from pathlib import Path

from headrace.reference import page


def test_the_reference_page_is_what_the_code_says() -> None:
    committed = Path(__file__, "../../../docs/reference.md").resolve().read_text(encoding="utf-8")
    assert committed == page(), "run: python -m headrace.reference"
