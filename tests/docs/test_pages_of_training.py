"""Blocks of the pages on training run as they stand."""

import pytest
from doc_runner import pages_of, run_page


@pytest.mark.parametrize("page", pages_of("training"))
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_of("training", slow=True))
def test_a_page_runs_with_its_slow_blocks(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path, slow=True)
