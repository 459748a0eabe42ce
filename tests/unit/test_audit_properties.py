"""Whatever is changed in a log of whatever length, it is found; and what is honest never is."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.audit.publish import write_tiles
from services.core import logfile, tlog
from services.core.logcheck import check_log
from services.core.logentry import NO_PREVIOUS, chain_hash, parse_leaf
from services.core.logfindings import Report
from tests.audit import API, PROXY, SIGNER, chained, event, note, stored
from tests.fakes.log_store import MemoryLogStore

ALL = chained([event(number // 2 + 1, (API, PROXY)[number % 2]) for number in range(600)])

sizes = st.integers(1, 600)
few = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def check(store: MemoryLogStore, kept: bytes | None = None) -> Report:
    return check_log(store, SIGNER.vkey, kept)


@few
@given(sizes, st.data())
def test_an_honest_log_passes_against_each_of_its_checkpoints(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, size))
    report = check(stored(ALL[:size]), note(ALL[:old]))
    assert (report.size, report.problems, report.not_checkable) == (size, (), ())


@few
@given(st.integers(2, 600), st.data())
def test_a_change_that_is_signed_again_breaks_the_chain_or_the_kept_checkpoint(size: int, data: st.DataObject) -> None:
    leaves = ALL[:size]
    at = data.draw(st.integers(0, size - 1))
    how = data.draw(st.sampled_from(["edit", "remove", "swap", "double", "garble"]))
    if how == "edit":
        leaves[at] = leaves[at].replace(b'"traceId":""', b'"traceId":"x"')
    elif how == "remove":
        del leaves[at]
    elif how == "double":
        leaves.insert(at, leaves[at])
    elif how == "garble":
        leaves[at] = data.draw(st.binary(max_size=50))
    else:
        other = data.draw(st.integers(0, size - 1).filter(lambda index: index != at))
        leaves[at], leaves[other] = leaves[other], leaves[at]
    assert not check(stored(leaves), note(ALL[:size])).ok
    assert not check(stored(leaves, over=ALL[:size])).ok


@few
@given(st.integers(1, 600), st.data())
def test_any_byte_of_any_file_counts(size: int, data: st.DataObject) -> None:
    store = stored(ALL[:size])
    path = data.draw(st.sampled_from(sorted(store.files)))
    content = bytearray(store.files[path])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    store.files[path] = bytes(content)
    assert not check(store).ok


@few
@given(st.integers(1, 600), st.data())
def test_any_file_that_is_missing_counts(size: int, data: st.DataObject) -> None:
    store = stored(ALL[:size])
    assert set(store.files) == {"checkpoint", *logfile.paths(size)}
    del store.files[data.draw(st.sampled_from(sorted(store.files)))]
    assert not check(store).ok


@few
@given(st.integers(0, 600), st.integers(0, 600))
def test_growing_a_log_writes_what_building_it_at_once_writes(old: int, more: int) -> None:
    size = min(600, old + more)
    grown = stored(ALL[:old])
    write_tiles(grown, lambda first, end: ALL[first:end], old, size)
    grown.write("checkpoint", note(ALL[:size]))
    built = stored(ALL[:size])
    assert {path: grown.files[path] for path in built.files} == built.files


def test_the_chain_links_every_leaf_to_the_bytes_before_it() -> None:
    heads = [NO_PREVIOUS, *map(chain_hash, ALL[:-1])]
    assert [parse_leaf(leaf)[1] for leaf in ALL] == heads
    assert tlog.decode_bundle(tlog.encode_bundle(ALL[:256])) == ALL[:256]
