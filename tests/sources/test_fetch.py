from pathlib import Path

import pytest

from irbin.errors import SourceError
from irbin.sources.fetch import cached_path, fetch_url


def test_fetch_downloads_once_and_checks_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "net-0123abcd.pth").write_bytes(b"not what the name says")
    wrong = (tmp_path / "net-0123abcd.pth").as_uri()
    with pytest.raises(SourceError, match=r"`me` cannot be fetched: .*invalid hash value"):
        fetch_url(wrong, "me")
    assert not cached_path(wrong).exists()
    plain = tmp_path / "net.pth"
    plain.write_bytes(b"x")
    path = fetch_url(plain.as_uri(), "me")
    assert path == tmp_path / "home" / "hub" / "checkpoints" / "net.pth"
    plain.unlink()
    assert fetch_url(plain.as_uri(), "me").read_bytes() == b"x"
