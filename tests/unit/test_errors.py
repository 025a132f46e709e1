import pickle

import pytest

from streamer.errors import PhotoRefused, SourceUnavailable, redact


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://bob:secret@10.0.0.5:554/a", "rtsp://***@10.0.0.5:554/a"),
        ("open rtsp://bob@cam/a failed", "open rtsp://***@cam/a failed"),
        ("rtsp://bob:p@ss@cam/a", "rtsp://***@cam/a"),
        ("rtsp://bob:p@ss@w/rd@cam:1/x of bob", "rtsp://***@cam:1/x of bob"),
        ('{"url": "rtsp://bob:se/cret@cam/x", "by": "a@b"}', '{"url": "rtsp://***@cam/x", "by": "a@b"}'),
        ("rtsp://bob:s3cr'et@cam/x", "rtsp://***@cam/x"),
        ('rtsp://bo"b:s3<cr>et@cam/x', "rtsp://***@cam/x"),
        ("http://cam/a?user=x&password=hunter2&b=1", "http://cam/a?user=x&password=***&b=1"),
        ("GET /api/recordings/a?expires=9&sig=0a1b2c HTTP", "GET /api/recordings/a?expires=9&sig=*** HTTP"),
        ("rtsp://cam/a", "rtsp://cam/a"),
        ("mail bob@example.org", "mail bob@example.org"),
    ],
)
def test_credentials_never_stay_in_a_text(text, clean):
    assert redact(text) == clean


def test_an_error_is_one_redacted_line_and_crosses_processes():
    error = SourceUnavailable("cannot open rtsp://a:b@cam/x\n  connection refused")
    assert str(error) == "cannot open rtsp://***@cam/x connection refused"
    copy = pickle.loads(pickle.dumps(PhotoRefused("no face")))
    assert isinstance(copy, PhotoRefused)
    assert str(copy) == "no face"
