"""One file over HTTP: what breaks, what continues, and what is refused."""

import hashlib
from collections import namedtuple
from http.client import HTTPMessage
from urllib.request import Request

import pytest

from scenegen.hub import body
from scenegen.hub.releases import HubError
from scenegen.hub.transfer import Announcement, NotPublished, _Redirects, announce, fetch, part_path
from tests.hub_server import COMMIT

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()
DiskUsage = namedtuple("DiskUsage", "total used free")
FILE = "owner/name/model.safetensors"


@pytest.fixture
def url(hub):
    hub.files[FILE] = CONTENT
    return f"{hub.endpoint}/owner/name/resolve/main/model.safetensors"


@pytest.fixture
def bring(url, tmp_path):
    """Announce and fetch the file; returns its content."""

    def call(**keywords):
        target = tmp_path / "in" / "model.safetensors"
        fetch(url, target, announce(url), **{"pause_s": 0.0, **keywords})
        assert [path.name for path in target.parent.iterdir()] == [target.name]
        return target.read_bytes()

    return call


def test_announcement_of_a_small_file_and_of_one_in_another_storage(hub, url):
    small = announce(url)
    assert (small.size, small.sha256, len(small.commit)) == (len(CONTENT), None, 40) and small.etag
    hub.large.add(FILE)
    assert announce(url) == Announcement(len(CONTENT), DIGEST, DIGEST, small.commit)


def test_a_server_that_refuses_to_announce_is_no_fault(hub, url):
    hub.statuses[FILE] = 405
    assert announce(url) == Announcement()


@pytest.mark.parametrize("is_large", [False, True])
def test_whole_file_arrives_with_its_digest_and_progress(hub, bring, is_large):
    if is_large:
        hub.large.add(FILE)
    seen = []
    assert bring(on_progress=seen.append) == CONTENT
    assert seen[0] == 0 and seen[-1] == len(CONTENT)


def test_broken_transfer_continues_where_it_stopped(hub, bring):
    hub.breaks[FILE] = [1000, 3000]
    assert bring(sha256=DIGEST) == CONTENT
    assert hub.gets("model.safetensors") == [None, "bytes=1000-", "bytes=4000-"]


def test_next_run_continues_what_the_last_one_left(hub, bring):
    hub.breaks[FILE] = [1000, 500]
    with pytest.raises(HubError, match=r"broke 2 times \(got 500 of 9240 bytes\).*continues at 1500 bytes"):
        bring(attempts=2)
    assert bring() == CONTENT
    assert hub.gets("model.safetensors")[-1] == "bytes=1500-"


def test_server_without_ranges_starts_again(hub, bring):
    hub.without_range.add(FILE)
    hub.breaks[FILE] = [1000]
    assert bring() == CONTENT


def test_part_of_another_content_is_not_continued(hub, bring):
    hub.breaks[FILE] = [1000]
    with pytest.raises(HubError, match="broke 1 times"):
        bring(attempts=1)
    del hub.breaks[FILE]
    hub.files[FILE] = CONTENT[::-1]
    assert bring() == CONTENT[::-1]
    assert hub.gets("model.safetensors") == [None, None]


def test_without_identity_nothing_is_continued(hub, bring):
    hub.without_etag.add(FILE)
    hub.breaks[FILE] = [1000]
    with pytest.raises(HubError, match="broke 1 times"):
        bring(attempts=1)
    assert bring() == CONTENT
    assert hub.gets("model.safetensors") == [None, None]


def test_file_without_length_arrives(hub, bring):
    hub.without_length.add(FILE)
    assert bring(sha256=DIGEST) == CONTENT


def test_part_longer_than_the_file_is_fetched_again(hub, url, tmp_path):
    target, announced = tmp_path / "m", Announcement(etag="x")
    part_path(target, announced).write_bytes(CONTENT + b"more")
    fetch(url, target, announced, pause_s=0.0)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_fault_of_the_server_is_tried_again(hub, url, tmp_path, status):
    announced = announce(url)
    hub.statuses[FILE] = status
    with pytest.raises(HubError, match=f"broke 2 times .status {status}."):
        fetch(url, tmp_path / "m", announced, pause_s=0.0, attempts=2)


def test_wrong_digest_keeps_nothing(bring, tmp_path):
    with pytest.raises(HubError, match=r"expected sha256 000000000000\.\.\., got .*nothing was kept"):
        bring(sha256="0" * 64)
    assert list((tmp_path / "in").iterdir()) == []


def test_announced_digest_is_checked_too(hub, url, tmp_path):
    announced = Announcement(len(CONTENT), "0" * 64, "0" * 64)
    with pytest.raises(HubError, match="expected sha256 000000000000"):
        fetch(url, tmp_path / "m", announced)


def test_content_of_another_size_than_announced_is_refused(hub, url, tmp_path):
    with pytest.raises(HubError, match="expected at most 5 bytes, got more"):
        fetch(url, tmp_path / "m", Announcement(size=5, etag="x"), pause_s=0.0, attempts=2)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (404, NotPublished, r"expected a published file, the server has none \(404\)"),
        (401, HubError, r"refuses \(401\); accept the terms .* HF_TOKEN"),
        (403, HubError, r"refuses \(403\)"),
        (418, HubError, "the server answers 418"),
    ],
)
def test_final_answers_are_one_line(hub, url, tmp_path, status, kind, message):
    hub.statuses[FILE] = status
    for call in (lambda: announce(url), lambda: fetch(url, tmp_path / "m", Announcement(etag="x"))):
        with pytest.raises(kind, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_server_that_is_not_there_is_named(tmp_path):
    with pytest.raises(HubError, match=r"http://127.0.0.1:9/x: cannot be reached .*--endpoint"):
        announce("http://127.0.0.1:9/x")


def test_token_goes_to_the_hub_and_not_to_its_storage(hub, url, tmp_path):
    hub.large.add(FILE)
    fetch(url, tmp_path / "m", announce(url, "secret"), token="secret")
    assert {path.split("/")[1] for path, _ in hub.tokens} == {"owner"}
    assert {token for _, token in hub.tokens} == {"Bearer secret"}


def test_part_is_continued_from_another_address_of_the_same_content(hub, url, tmp_path):
    """A first run asks for the newest revision, the next for the recorded commit."""
    hub.breaks[FILE] = [1000]
    with pytest.raises(HubError, match="continues at 1000 bytes"):
        fetch(url, tmp_path / "m", announce(url), attempts=1)
    pinned = url.replace("/main/", f"/{COMMIT}/")
    fetch(pinned, tmp_path / "m", announce(pinned))
    assert hub.gets("model.safetensors")[-1] == "bytes=1000-"


def test_part_that_is_whole_is_not_fetched_again(hub, url, tmp_path):
    announced = announce(url)
    part_path(tmp_path / "m", announced).write_bytes(CONTENT)
    fetch(url, tmp_path / "m", announced, sha256=DIGEST)
    assert hub.gets("model.safetensors") == []


def test_endless_stream_ends_at_the_limit_and_keeps_nothing(hub, url, tmp_path):
    hub.endless.add(FILE)
    with pytest.raises(HubError, match="expected at most 300000 bytes, got more"):
        fetch(url, tmp_path / "m", Announcement(), max_bytes=300_000, attempts=2, pause_s=0.0)
    assert list(tmp_path.iterdir()) == []


def test_body_longer_than_announced_ends_at_its_size(hub, url, tmp_path):
    hub.announced_sizes[FILE] = 9000
    announced = announce(url)
    with pytest.raises(HubError, match="expected at most 9000 bytes, got more"):
        fetch(url, tmp_path / "m", announced, attempts=2, pause_s=0.0)
    assert list(tmp_path.iterdir()) == []


def test_byte_after_byte_is_given_up(hub, url, tmp_path, monkeypatch):
    monkeypatch.setattr(body, "SLOW_WINDOW_S", 0.2)
    hub.slow.add(FILE)
    with pytest.raises(HubError, match=r"broke 2 times \(slower than 1024 bytes a second\)"):
        fetch(url, tmp_path / "m", announce(url), attempts=2, pause_s=0.0)


def test_disk_that_fills_up_on_the_way_ends_the_transfer(hub, url, tmp_path, monkeypatch):
    monkeypatch.setattr(body, "_LOOKS", 0)
    monkeypatch.setattr(body.shutil, "disk_usage", lambda path: DiskUsage(1, 1, 0))
    with pytest.raises(HubError, match=r"expected 67.1 MB of free space, the disk has 0 B; free some"):
        fetch(url, tmp_path / "m", announce(url))


def test_disk_that_refuses_is_told_with_the_file(hub, url, tmp_path, monkeypatch):
    announced = announce(url)
    part_path(tmp_path / "m", announced).mkdir()
    with pytest.raises(HubError, match=r"part: cannot be written \(Is a directory\); free some space"):
        fetch(url, tmp_path / "m", announced)


BAD_ADDRESSES = (
    "file:///etc/passwd",
    "ftp://127.0.0.1:9/x",
    "javascript:alert(1)",
    "http://[::1/x",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:port/x",
    "http:///x",
    "http://exa mple/x",
    "https://",
    "http://" + "n" * 4000 + "/x",
    "data:text/plain,hello",
    "\x01\x02",
)


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_redirection_to_what_is_no_web_address_is_one_line(hub, url, tmp_path, address):
    hub.redirects[FILE] = address
    anything = Announcement(etag="x")
    for call in (lambda: announce(url), lambda: fetch(url, tmp_path / "m", anything, pause_s=0.0)):
        with pytest.raises(HubError) as error:
            call()
        assert "\n" not in str(error.value) and url in str(error.value)
    assert not (tmp_path / "m").exists()


def test_redirection_in_a_circle_is_one_line(hub, url, tmp_path):
    hub.redirects[FILE] = url
    with pytest.raises(HubError) as error:
        announce(url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "is_kept"),
    [
        ("https://hub.example/other", True),
        ("https://storage.example/file", False),
        ("https://hub.example:8443/file", False),
        ("https://hub.example@storage.example/file", False),
        ("https://sub.hub.example/file", False),
    ],
)
def test_the_token_follows_to_the_same_address_only(address, is_kept):
    request = Request("https://hub.example/file", headers={"Authorization": "Bearer secret"})
    redirected = _Redirects().redirect_request(request, None, 302, "Found", HTTPMessage(), address)
    assert redirected.has_header("Authorization") is is_kept


def test_redirection_from_https_to_http_is_refused():
    request = Request("https://hub.example/file", headers={"Authorization": "Bearer secret"})
    with pytest.raises(HubError, match="none from https to http, got 'http://hub.example/file'"):
        _Redirects().redirect_request(request, None, 302, "Found", HTTPMessage(), "http://hub.example/file")
