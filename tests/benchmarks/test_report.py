"""The report's formats agree with each other, survive whatever a record holds, and draw their charts."""

import csv
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from essper.benchmarks.comparison import compare
from essper.benchmarks.report import FORMATS, console_table, write_report
from essper.benchmarks.report.plain import escape_latex, escape_markdown
from essper.benchmarks.report.table import count, interval, number
from records import TRUST_NEITHER, make_failure, make_fits, make_record
from rich.console import Console

WITH_WARMUP = "ess_bulk_per_gradient_with_warmup.min"
NASTY = "=cmd|' /C calc'!A0 <script>alert(1)</script> [b]x[/b] 50%_of & $y^2$ {z} ~ # \\end ` * é π"


def typical_records():
    """Two posteriors, four samplers, three seeds; one sampler biased, one gradient-free; one cell failed."""
    records = []
    for posterior, factor in (("eight_schools-noncentered", 1.0), ("earnings_logearn", 1.7)):
        for seed in range(3):
            wobble = 1 + 0.1 * seed
            records += [
                make_record(posterior, "nuts", seed, ess=2000 * factor * wobble),
                make_record(posterior, "drhmc[stages=2]", seed, ess=1500 * factor / wobble),
                make_record(posterior, "sgld", seed, "biased", ess=30000 * wobble),
                make_record(posterior, "gibbs", seed, ess=700 * wobble, gradient_free=True),
            ]
    records[1] = make_failure("eight_schools-noncentered", "drhmc[stages=2]", 0)
    return records


class Tables(HTMLParser):
    """The figures' tables of a page: {posterior: [{column: text}]}; the two of a posterior are joined."""

    def __init__(self, page: str):
        super().__init__()
        self.rows: dict[str, dict[str, dict[str, str]]] = {}
        self._posterior = self._column = None
        self._row: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if tag == "table":
            self._posterior = names.get("data-posterior")
        elif tag == "tr":
            self._row = {}
        elif tag == "td":
            self._column = names.get("data-column")

    def handle_endtag(self, tag):
        if tag == "td":
            self._column = None
        elif tag == "tr" and self._posterior and self._row:
            rows = self.rows.setdefault(self._posterior, {})
            rows.setdefault(self._row["sampler"], {}).update(self._row)

    def handle_data(self, data):
        if self._posterior and self._column:
            self._row[self._column] = (self._row.get(self._column, "") + data).strip()


def read(paths: dict[str, Path]) -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}


def test_every_format_shows_the_same_numbers(tmp_path):
    records = typical_records()
    texts = read(write_report(records, tmp_path))
    content = json.loads(texts["json"])
    assert content["records"] == records
    page = Tables(texts["html"]).rows
    lines = {(row["posterior"], row["label"]): row for row in csv.DictReader(io.StringIO(texts["csv"]))}
    assert len(content["comparison"]["summaries"]) == len(lines) == 8
    for summary in content["comparison"]["summaries"]:
        estimate = summary["metrics"][WITH_WARMUP]
        line = lines[summary["posterior"], summary["label"]]
        for bound, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            written = line[WITH_WARMUP + suffix]
            assert (float(written) if written else None) == estimate[bound]
        assert line["status"] == summary["status"]
        assert line["rank"] == ("" if summary["rank"] is None else str(summary["rank"]))

        shown = interval(estimate, 1000)
        row = page[summary["posterior"]][summary["label"]]
        assert row["with_warmup"] == shown
        assert row["status"].endswith(summary["status_text"])
        total = summary["gradients"]
        assert row["gradients"] == f"{count(total['warmup'])} + {count(total['sampling'])}"
        for escape, text in ((escape_markdown, texts["md"]), (escape_latex, texts["tex"])):
            section = text.split(escape(summary["posterior"]), 1)[1]
            (first, *_) = [one for one in section.splitlines() if escape(summary["label"]) in one]
            assert escape(shown) in first
            assert escape(summary["status_text"]) in first


def test_the_ratio_is_written_alike_and_marked_where_it_does_not_count(tmp_path):
    texts = read(write_report(typical_records(), tmp_path))
    ratios = {
        (one["posterior"], one["label"]): one
        for one in json.loads(texts["json"])["comparison"]["ratios"]
        if one["metric"] == WITH_WARMUP
    }
    page = Tables(texts["html"]).rows
    biased = ratios["earnings_logearn", "sgld"]
    assert page["earnings_logearn"]["sgld"]["ratio"] == f"({interval(biased['estimate'])})"
    counts = interval(ratios["earnings_logearn", "drhmc[stages=2]"]["estimate"])
    assert page["earnings_logearn"]["drhmc[stages=2]"]["ratio"] == counts
    assert escape_markdown(counts) in texts["md"]
    assert escape_latex(counts) in texts["tex"]
    assert page["earnings_logearn"]["nuts"]["ratio"] == "baseline"


def test_the_terminal_shows_the_same_numbers_without_reading_markup():
    comparison = compare(typical_records())
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(console_table(comparison))
    text = console.export_text()
    assert "drhmc[stages=2]" in text
    for summary in comparison.summaries:
        value = summary.metrics[WITH_WARMUP].value
        assert number(None if value is None else 1000 * value) in text
    assert "ok 2/3, failed 1/3" in text
    assert "over 1 of 2 posteriors" in text


def test_approximate_samplers_show_their_errors_and_the_best_is_marked(tmp_path):
    records = [make_record(sampler="hmc", ess=2000.0), make_record(sampler="nuts", ess=1000.0)]
    records.append(make_record(sampler="sgld", status="biased", approximate=True))
    texts = read(write_report(records, tmp_path))
    (rows,) = Tables(texts["html"]).rows.values()
    sgld, best = rows["sgld"], rows["hmc"]["b2"]
    assert best.endswith(" best")
    assert " best" not in rows["nuts"]["b2"] + "".join(sgld.values())
    # Both exact samplers are as good as noise lets one tell.
    assert [rows[label]["ksd"] for label in ("hmc", "nuts")] == ["0.00750 (0.0400) best"] * 2
    assert [sgld[column] for column in ("with_warmup", "second", "ratio", "rank")] == ["–"] * 4
    assert (sgld["w1"], sgld["sliced_w1"], sgld["ksd"]) == (
        "0.300 (0.0200)",
        "0.100 (0.0150)",
        "0.0750 (0.0400)",
    )
    assert [rows[label]["error_rank"] for label in ("hmc", "nuts", "sgld")] == ["1", "2", "3"]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(console_table(compare(records), 200))
    text = console.export_text()
    for shown in (text, texts["md"], texts["tex"]):
        assert best in shown
        assert sgld["b2"] in shown
    for text in (texts["html"], texts["md"]):
        assert "sgld" in text.split("approximate: ranked on error")[0]
        assert "come no nearer to the posterior" in text
    (line,) = [one for one in csv.DictReader(io.StringIO(texts["csv"])) if one["label"] == "sgld"]
    assert (line["approximate"], line["w1.maximum"], line["floor.w1.maximum"]) == ("True", "0.3", "0.02")
    assert line["ess_bulk_per_gradient.min"] == line["ratio.ess_bulk_per_gradient.min"] == ""


def test_fits_show_their_khat_beside_the_error_and_a_note(tmp_path):
    fitted = {"status": "biased", "approximate": True}
    fvi = make_record(sampler="fvi", **fitted, variational=make_fits(khat=0.35, w1=0.015, elbo=-31.5))
    avi = make_record(sampler="avi", **fitted, variational=make_fits(khat=0.93, elbo=-33.0))
    for record in (fvi, avi):
        curve = record["error_curve"]
        curve["gradients"] = curve["gradients"][-1:]
        for moment in ("mean", "square"):
            curve[f"b2_{moment}"] = {over: values[-1:] for over, values in curve[f"b2_{moment}"].items()}
    records = [make_record(), fvi, avi]
    texts = read(write_report(records, tmp_path))
    (rows,) = Tables(texts["html"]).rows.values()
    assert [rows[label]["khat"] for label in ("nuts", "fvi", "avi")] == ["–", "0.35", "0.93 > 0.67"]
    assert rows["fvi"]["elbo"] == "-31.500 [-31.520, -31.480]"
    assert (rows["fvi"]["w1"], rows["fvi"]["w1_resampled"]) == ("0.300 (0.0200)", "0.0150 (0.0200)")
    assert rows["fvi"]["converged"] == "3 of 4"
    assert rows["fvi"]["note"].startswith(
        "importance resampling would repair the marginals: largest W₁ 0.3 →"
    )
    assert rows["avi"]["note"] == f"k-hat 0.93 is above 0.67: {TRUST_NEITHER}"
    assert rows["fvi"]["mean_error"] == "0.400 (0.0300)"
    assert rows["fvi"]["coverage_90"] == "0.540"
    assert texts["html"].count('"kind": "point"') == 2 * 4  # two fits, x and x², average and maximum
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(console_table(compare(records), 220))
    text = console.export_text()
    for shown in (text, texts["md"], texts["tex"]):
        assert "0.35" in shown
    for shown in (text, texts["md"], texts["html"], texts["csv"]):
        assert rows["fvi"]["note"] in re.sub(r"\\([^a-z])", r"\1", shown)
        assert TRUST_NEITHER in shown
    lines = {row["label"]: row for row in csv.DictReader(io.StringIO(texts["csv"]))}
    assert (lines["avi"]["khat"], lines["avi"]["elbo_low"], lines["nuts"]["khat"]) == ("0.93", "-33.02", "")
    assert float(lines["fvi"]["w1_resampled.maximum"]) == pytest.approx(0.015)
    grid = re.search(r"<caption>ELBO of the grid.*?</table>", texts["html"], re.S)
    assert grid is not None
    assert "-31.7500*" in grid[0]
    without = read(write_report([make_record(), make_record(sampler="sgld", approximate=True)], tmp_path))
    assert "k-hat" not in without["tex"]
    assert 'data-column="khat"' not in without["html"]


def test_a_narrow_terminal_loses_columns_and_says_which_but_cuts_no_number():
    comparison = compare(typical_records())
    console = Console(width=90, record=True, file=io.StringIO())
    console.print(console_table(comparison, 90))
    text = console.export_text()
    assert "…" not in text
    assert "Too narrow for: " in text
    assert "gradients warmup + sampling" in text.partition("Too narrow for: ")[2]
    for summary in comparison.summaries:
        value = summary.metrics[WITH_WARMUP].value
        assert number(None if value is None else 1000 * value) in text


@pytest.mark.parametrize(
    "records",
    [
        [make_failure(), make_failure(sampler="hmc")],
        [make_record(status="unverified"), make_record(sampler="hmc", status="unverified")],
        [make_record()],
        [make_record(ess=0.0), make_record(sampler="hmc", ess=0.0)],
        [make_record(f"posterior-{i}", f"sampler-{j}") for i in range(15) for j in range(8)],
    ],
    ids=["all failed", "no reference", "one cell", "stuck", "many"],
)
def test_unusual_records_make_every_format(records, tmp_path):
    paths = write_report(records, tmp_path)
    texts = read(paths)
    assert list(paths) == list(FORMATS)
    comparison = json.loads(texts["json"])["comparison"]
    assert len(list(csv.reader(io.StringIO(texts["csv"])))) == 1 + len(comparison["summaries"])
    page = Tables(texts["html"]).rows
    for summary in comparison["summaries"]:
        row = page[summary["posterior"]][summary["label"]]
        assert row["status"].endswith(summary["status_text"])
        if summary["rank"] is None:
            assert summary["reason"] in texts["html"]
    for text in texts.values():
        assert not re.search(r"\b(nan|inf|None|Undefined)\b", text.split("<script>", 1)[0])


def test_failures_are_shown_with_their_error(tmp_path):
    text = write_report([make_failure(message="no <model> here")], tmp_path)["html"].read_text()
    assert "RuntimeError: no &lt;model&gt; here" in text
    assert "No group has an ESS per gradient to show." in text
    assert "vegaEmbed" not in text  # without charts there is nothing to draw them with


def test_names_are_escaped_everywhere(tmp_path):
    records = [make_record(NASTY, NASTY, seed) for seed in (0, 1)] + [make_record(NASTY, "nuts")]
    records[0]["warnings"] = [NASTY]
    records.append(make_failure(NASTY, "hmc", message=NASTY))
    texts = read(write_report(records, tmp_path))
    assert "alert(1)" in texts["html"]
    assert "<script>alert" not in texts["html"]
    assert NASTY in Tables(texts["html"]).rows[NASTY]
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert {row["posterior"] for row in rows} == {"'" + NASTY}
    assert "<script>" not in texts["md"]
    table = [line for line in texts["md"].splitlines() if line.startswith("| ")]
    assert (
        len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) <= 4
    )  # figures, errors, estimates, and over posteriors
    assert r"50\%\_of \& \$y\textasciicircum{}2\$ \{z\}" in texts["tex"]
    assert r"\textbackslash{}end" in texts["tex"]


def test_latex_compiles(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    records = [*typical_records(), make_record(NASTY, NASTY), make_record(NASTY, "sgld", approximate=True)]
    write_report(records, tmp_path, formats=("tex",))
    packages = r"\usepackage{booktabs,graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{report}}\end{{document}}"
    (tmp_path / "document.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=60)
    assert run.returncode == 0, run.stdout[-2000:]


def test_a_difference_between_executed_and_counted_is_pointed_out(tmp_path):
    audited, differing = make_record(), make_record(sampler="hmc")
    assert "differs" not in _cells(write_report([audited], tmp_path)["html"])
    differing["cost"]["executed"]["gradients"] = 131072
    cells = _cells(write_report([differing], tmp_path)["html"])
    assert 'class="differs"' in cells
    assert "executed 131,072 gradients and 0 densities, the algorithm counts 100,000 and 0" in cells


def _cells(path: Path) -> str:
    return path.read_text().split('<section id="cells">')[1].split("</section>")[0]


def test_wrong_requests_write_nothing(tmp_path):
    target = tmp_path / "report"
    with pytest.raises(ValueError, match="Run some cells"):
        write_report([], target)
    with pytest.raises(ValueError, match="Unknown report format pdf"):
        write_report([make_record()], target, formats=("pdf",))
    with pytest.raises(ValueError, match="No cell has the baseline"):
        write_report([make_record()], target, baseline="hmc")
    assert not target.exists()


def test_files_are_replaced_whole(tmp_path):
    (tmp_path / "report.csv").write_text("old")
    paths = write_report([make_record()], tmp_path, formats=("csv",))
    assert paths == {"csv": tmp_path / "report.csv"}
    assert [path.name for path in tmp_path.iterdir()] == ["report.csv"]
    assert paths["csv"].read_text().startswith("posterior,label,")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The typical report in a headless browser: its document after the scripts, its console, its picture."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: the page's charts cannot be looked at")
    folder = tmp_path_factory.mktemp("page")
    page = write_report(typical_records(), folder, formats=("html",))["html"]
    command = [
        browser,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=10000", "--window-size=1200,3000"),
        f"--user-data-dir={folder / 'profile'}",
        f"--screenshot={folder / 'page.png'}",
        "--dump-dom",
        page.as_uri(),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return run.stdout, run.stderr, (folder / "page.png").read_bytes()


def test_the_page_reports_no_error(opened):
    _, log, _ = opened
    messages = [line for line in log.splitlines() if ":CONSOLE" in line]
    assert not [line for line in messages if "WARN" not in line], messages


def test_every_chart_is_drawn(opened):
    document, _, _ = opened
    names = re.findall(r'data-chart="chart-(\w+)"', document)
    assert names == ["efficiency", "evaluation", "error", "ratio"]
    pictures = [
        ET.fromstring(svg) for svg in re.findall(r"<svg[^>]*class=\"marks\".*?</svg>", document, re.S)
    ]
    assert len(pictures) == len(names)
    for name, picture in zip(names, pictures, strict=True):
        kind = "mark-line" if name == "error" else "mark-symbol"
        groups = [node for node in picture.iter() if kind in node.get("class", "")]
        marks = [path for group in groups for path in group.iter() if path.get("d")]
        # On each of two posteriors three samplers take gradients and one does not.
        assert len(marks) >= {"efficiency": 6, "evaluation": 8, "error": 16, "ratio": 4}[name], name
        assert all("NaN" not in path.get("d", "") for path in marks)


def test_the_page_is_not_blank(opened):
    _, _, picture = opened
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 100_000


def test_the_page_needs_no_network(tmp_path):
    text = write_report(typical_records(), tmp_path, formats=("html",))["html"].read_text()
    assert "default-src 'none'" in text
    outside_bundle = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.search(r'(?:src|href)="(?!#)', outside_bundle)
    assert text.count("window.vegaEmbed=") == 1
    assert len(text) < 3_000_000
