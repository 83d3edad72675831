import pytest
from report_store import report_store

from jobs.report import ReportOptions, main
from logit_store import ClipsMismatch, MissingStore
from terminal.console import UserError

MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return report_store(tmp_path_factory.mktemp("report"))


def report(made, place, **more):
    options = {"corpus": "tau", "root": str(made.corpus.root), "store": made.store.address}
    return main(ReportOptions(to=place, **options | more))


def test_the_command_writes_the_page_and_the_numbers_of_all_its_figures(called, made, tmp_path):
    place, folder = tmp_path / "made" / "report.html", tmp_path / "tables"
    options = ("--corpus", "tau", "--root", made.corpus.root, "--store", made.store.address)
    printed = called("jobs/report.py", *options, "--to", place, "--csv", folder)
    assert place.stat().st_size < MOST_BYTES
    page = place.read_text()
    figures = [part.split('"')[0] for part in page.split('<template id="csv-')[1:]]
    assert sorted(each.name for each in folder.iterdir()) == sorted(f"{f}.csv" for f in figures)
    assert f"{len(figures)} CSV files" in printed
    assert printed.splitlines()[-1] == f"next: open {place.as_uri()} in a browser"


def test_a_report_is_made_of_the_store_alone_where_the_clips_are_not_there(made, tmp_path):
    place = tmp_path / "report.html"
    assert report(made, place, root=None) == 0
    page = place.read_text()
    assert "demo_isotropic from stepwise" in page
    assert "<audio" not in page


def test_nothing_is_reported_of_clips_that_are_not_those_of_the_store(made, tmp_path):
    files = (made.corpus.root / "meta.csv").read_text().splitlines(keepends=True)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("audio", "split_setup"):
        (other / name).symlink_to(made.corpus.root / name)
    (other / "meta.csv").write_text("".join([files[0], *reversed(files[1:])]))
    with pytest.raises(ClipsMismatch, match="in another order"):
        report(made, tmp_path / "report.html", root=str(other))
    assert not (tmp_path / "report.html").exists()


def test_the_command_says_how_many_systems_it_left_out_and_how_to_show_them(made, tmp_path, capsys):
    place = tmp_path / "report.html"
    assert report(made, place, root=None, most=1) == 0
    assert "4 systems are left out, as 1 of a kind and split are shown (--most)" in (
        capsys.readouterr().out
    )
    assert "Systems that are left out" in place.read_text()


def test_a_store_that_is_not_there_is_an_error_that_names_it(made, tmp_path):
    with pytest.raises(MissingStore, match="nowhere"):
        report(made, tmp_path / "report.html", store=str(tmp_path / "nowhere"))


def test_a_page_that_would_be_thrown_away_is_refused(made, monkeypatch):
    monkeypatch.setattr("jobs.report.is_uploaded", lambda: True)
    with pytest.raises(UserError, match="give an absolute path"):
        report(made, None)
