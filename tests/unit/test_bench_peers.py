"""What `bench peers` makes of its rounds."""

from xml.etree import ElementTree

from benchmarks import chart
from benchmarks.peers.__main__ import JOBBER, PSQL, Run, summary
from benchmarks.peers.ways import FEWEST, PEERS


def test_a_ratio_is_the_median_of_the_rounds_ratios_by_rate() -> None:
    # Round by round 4.9, 5.1 and 30 times as fast, though it loads a tenth of the rows; that of the medians is 6.
    ours = [Run(1000, 1.0, 2.0), Run(1000, 0.5, 2.0), Run(1000, 0.1, 5.0)]
    theirs = [Run(100, 0.49, 1.0), Run(100, 0.255, 1.0), Run(100, 0.3, 1.0)]
    line = next(line for line in summary({JOBBER: ours, "dlt rows": theirs}) if line["way"] == "dlt rows")
    assert (line["jobber is x"], line["bar"], line["checks"]) == (5.1, "5 met", "no")
    assert line["CPU s/1M rows"] == 1e4


def test_a_bar_is_missed_by_a_little_and_psql_has_none() -> None:
    ours, theirs = [Run(1000, 1.0, 1.0)], [Run(1000, 4.99, 1.0)]
    lines = {line["way"]: line for line in summary({JOBBER: ours, PSQL: theirs, "celery copy": theirs})}
    assert lines["celery copy"]["bar"] == "5 MISSED"
    assert lines[PSQL]["bar"] == lines[JOBBER]["bar"] == ""
    assert (lines[JOBBER]["checks"], lines[JOBBER]["lacks"]) == ("yes", "")


def test_each_peer_has_a_schema_of_its_own_and_enough_rows() -> None:
    assert len({peer.schema for peer in PEERS}) == len(PEERS)
    assert all(peer.schema.isidentifier() for peer in PEERS)
    assert {peer.rows(1_000_000) for peer in PEERS if peer.share == 1} == {1_000_000}
    assert {peer.rows(100) for peer in PEERS} == {100}
    assert min(peer.rows(20_000) for peer in PEERS) == FEWEST


def test_charts_are_svg_in_proportion() -> None:
    drawn = ElementTree.fromstring(chart.bars("rows <a second>", {"ours": 100.0, "theirs": 50.0}, {"theirs"}))
    ours, theirs = (bar for bar in drawn.iter() if bar.tag.endswith("rect") and bar.get("rx"))
    assert float(ours.attrib["width"]) == 2 * float(theirs.attrib["width"])
    assert (ours.attrib["fill"], theirs.attrib["fill"]) == (chart.OURS, chart.OTHERS)
    spots = list(ElementTree.fromstring(chart.lines("x", "rows", {"a": [(1, 10.0), (10, 5.0)]})).iter())
    high, low = (float(spot.attrib["cy"]) for spot in spots if spot.tag.endswith("circle"))
    assert (high, low) == (chart.TOP, chart.TOP + chart.PLOT / 2)
