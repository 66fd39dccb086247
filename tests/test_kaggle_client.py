"""The adapter of the real kaggle package, with a simulated Kaggle that can fail in every way that we know of."""

import pytest

from featherweight.errors import Unavailable, UserError
from featherweight.kaggle import client as kaggle_client
from featherweight.kaggle import credentials as kaggle_credentials
from featherweight.kaggle import responses
from kaggle_server import SIGNATURE, TOKEN, Fault

SLUG = "tiny-weights"


@pytest.fixture
def kaggle(fake_kaggle):
    return kaggle_client.Kaggle()


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("id,label\n1,cat\n")
    return path


def submit(kaggle, csv, tag="fw-1234-1"):
    return kaggle.submit(SLUG, csv, f"a run [{tag}]", tag)


def test_a_submission_arrives_whole_and_is_found_in_the_listing(kaggle, fake_kaggle, csv, capsys):
    made = submit(kaggle, csv)
    assert made.reference == 1000
    assert made.status == "PENDING"
    assert fake_kaggle.uploads[fake_kaggle.submissions[0]["content"]] == csv.read_bytes()
    assert fake_kaggle.submissions[0]["description"] == "a run [fw-1234-1]"
    assert capsys.readouterr().out == ""


def test_limits_leaderboard_and_listing(kaggle, fake_kaggle, csv):
    submit(kaggle, csv)
    fake_kaggle.submissions[0].update(status="COMPLETE", publicScore="0.91", privateScore="")
    assert kaggle.limits(SLUG) == responses.Limits(today=1, left=5)
    assert [(place.rank, place.team) for place in kaggle.leaderboard(SLUG, 2)] == [(1, "Ada"), (2, "Grace")]
    (row,) = kaggle.submissions(SLUG)
    assert (row.status, row.public, row.private) == ("COMPLETE", 0.91, None)


def test_all_zero_limits_are_a_newcomers_not_an_exhausted_teams(kaggle, fake_kaggle):
    fake_kaggle.left = fake_kaggle.made = 0
    assert kaggle.limits(SLUG).left is None
    fake_kaggle.made = 5
    assert kaggle.limits(SLUG).left == 0


REFUSALS = {
    "401": (Fault(401, {"code": 401, "message": "Unauthorized"}), "refused the credentials from KAGGLE_API_TOKEN"),
    "rules": (
        Fault(403, {"code": 403, "message": "You must accept this competition's rules"}),
        f"{SLUG}/rules, accept",
    ),
    "deadline": (Fault(400, {"code": 400, "message": "The submission deadline has passed."}), "the deadline of tiny-w"),
    "daily limit": (
        Fault(400, {"code": 400, "message": "Daily submission limit reached"}),
        "no submissions left today",
    ),
    "404": (Fault(404, {"code": 404, "message": "Not found"}), f"no competition called '{SLUG}'"),
    "403": (Fault(403, {"code": 403, "message": "Permission denied"}), "Kaggle refused to .*: Permission denied"),
    "403 without a word": (Fault(403, b"<html>no</html>"), "HTTP 403"),
    "refused inside a 200": (Fault(200, {"code": 403, "message": "You must accept the rules"}), "accept them"),
}


@pytest.mark.parametrize("step", ["StartSubmissionUpload", "CreateSubmission", "ListSubmissions"])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_sentence_that_the_user_can_act_on(kaggle, fake_kaggle, csv, name, step):
    fault, expected = REFUSALS[name]
    fake_kaggle.faults[step] = [fault]
    with pytest.raises(UserError, match=expected) as caught:
        kaggle.submissions(SLUG) if step == "ListSubmissions" else submit(kaggle, csv)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert fake_kaggle.asked.count(step) == 1


TROUBLES = {
    "500": (Fault(500, {"code": 500, "message": "oops"}), "trouble of its own .HTTP 500"),
    "503": (Fault(503, b"<html>busy</html>"), "trouble of its own .HTTP 503"),
    "dropped": (Fault(drop="before"), "the connection to Kaggle .*failed"),
    "slow": (Fault(seconds=0.6), "did not answer in time"),
    "not JSON": (Fault(200, b"<html>log in to the wifi</html>"), "is not JSON"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_while_reading_is_outlived_or_said(kaggle, fake_kaggle, monkeypatch, name):
    monkeypatch.setattr(kaggle_client, "ANSWER_SECONDS", 0.3)
    fault, expected = TROUBLES[name]
    fake_kaggle.faults["GetSubmissionLimits"] = [fault]
    assert kaggle.limits(SLUG).left == 5
    fake_kaggle.faults["GetSubmissionLimits"] = [fault] * 3
    with pytest.raises(Unavailable, match=expected) as caught:
        kaggle.limits(SLUG)
    assert caught.value.exit_code == 4


def test_too_many_requests_names_the_wait_and_is_not_asked_again(kaggle, fake_kaggle):
    fake_kaggle.faults["GetSubmissionLimits"] = [Fault(429, {"code": 429, "message": "slow"}, {"Retry-After": "37"})]
    with pytest.raises(Unavailable, match="too many requests; try again in 37 seconds"):
        kaggle.limits(SLUG)
    assert fake_kaggle.asked.count("GetSubmissionLimits") == 1


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_a_failed_upload_is_a_failure_and_submits_nothing(kaggle, fake_kaggle, csv, status):
    fake_kaggle.faults["PUT"] = [Fault(status, b"no")] * 3
    with pytest.raises(Unavailable, match=rf"refused \S+ .HTTP {status}.; nothing was submitted"):
        submit(kaggle, csv)
    assert "CreateSubmission" not in fake_kaggle.asked


def test_an_upload_that_breaks_off_is_begun_anew(kaggle, fake_kaggle, csv):
    fake_kaggle.faults["PUT"] = [Fault(drop="before"), Fault(503, b"busy")]
    assert submit(kaggle, csv).reference == 1000
    assert fake_kaggle.asked.count("PUT") == 3
    assert len(fake_kaggle.submissions) == 1


@pytest.mark.parametrize("fault", [Fault(drop="after"), Fault(seconds=0.6), Fault(drop="after", seconds=0.6)])
def test_a_connection_lost_after_the_submission_was_made_finds_it_and_makes_no_second(
    kaggle, fake_kaggle, csv, monkeypatch, fault
):
    monkeypatch.setattr(kaggle_client, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(kaggle_client, "LISTING_PAUSES", (0.5, 0.5))
    fake_kaggle.faults["CreateSubmission"] = [fault]
    assert submit(kaggle, csv).reference == 1000
    assert fake_kaggle.asked.count("CreateSubmission") == 1


@pytest.mark.parametrize("fault", [Fault(drop="before"), Fault(502, b"bad gateway")])
def test_a_submission_that_was_lost_is_not_sent_twice_and_says_what_to_do(kaggle, fake_kaggle, csv, fault):
    fake_kaggle.faults["CreateSubmission"] = [fault]
    with pytest.raises(Unavailable, match=r"not in Kaggle's listing yet\. Run the same command again"):
        submit(kaggle, csv)
    assert fake_kaggle.asked.count("CreateSubmission") == 1


def test_429_on_the_submission_itself_is_known_not_to_have_arrived(kaggle, fake_kaggle, csv):
    fake_kaggle.faults["CreateSubmission"] = [Fault(429, {"code": 429, "message": "slow"}, {"Retry-After": "9"})]
    with pytest.raises(Unavailable, match="try again in 9 seconds"):
        submit(kaggle, csv)
    assert "ListSubmissions" not in fake_kaggle.asked


def test_a_refusal_in_a_polite_reply_is_a_failure(kaggle, fake_kaggle, csv):
    fake_kaggle.faults["CreateSubmission"] = [Fault(200, {"message": "Submission not accepted: wrong shape", "ref": 0})]
    with pytest.raises(
        UserError, match="Kaggle refused to submit to tiny-weights: Submission not accepted: wrong shape"
    ):
        submit(kaggle, csv)


def test_a_submission_not_listed_yet_keeps_its_reference(kaggle, fake_kaggle, csv):
    fake_kaggle.hidden = True
    made = submit(kaggle, csv)
    assert (made.reference, made.status) == (1000, "PENDING")


def test_an_unknown_status_is_passed_on(kaggle, fake_kaggle, csv):
    submit(kaggle, csv)
    fake_kaggle.submissions[0]["status"] = "QUARANTINED"
    assert kaggle.submissions(SLUG)[0].status == "QUARANTINED"


def test_a_download_arrives_whole(kaggle, fake_kaggle, tmp_path):
    kaggle.download(SLUG, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == fake_kaggle.data


def test_a_truncated_download_is_resumed_where_it_stopped(kaggle, fake_kaggle, tmp_path):
    fake_kaggle.faults["GET"] = [Fault(cut=200_000), None, Fault(cut=200_000)]
    kaggle.download(SLUG, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == fake_kaggle.data
    assert [asked for asked in fake_kaggle.ranges if asked] == ["bytes=196608-", "bytes=393216-"]


def test_a_download_cut_off_for_good_is_resumed_by_the_next_command(kaggle, fake_kaggle, tmp_path):
    fake_kaggle.faults["GET"] = [Fault(cut=200_000), Fault(drop="before"), Fault(drop="before")]
    with pytest.raises(Unavailable):
        kaggle.download(SLUG, tmp_path / "x.zip")
    kaggle.download(SLUG, tmp_path / "x.zip")
    assert fake_kaggle.ranges[-1] == "bytes=196608-"
    assert (tmp_path / "x.zip").read_bytes() == fake_kaggle.data


def test_a_full_disk_is_not_tried_again(kaggle, fake_kaggle, tmp_path):
    (tmp_path / "x.zip").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        kaggle.download(SLUG, tmp_path / "x.zip")
    assert fake_kaggle.asked.count("GET") == 1


# Credentials


def test_without_credentials_the_package_is_not_even_imported(no_credentials):
    with pytest.raises(UserError, match="there are no Kaggle credentials: make a token at"):
        kaggle_client.Kaggle()


@pytest.mark.parametrize(
    ("make", "source"),
    [
        (lambda home, env: env("KAGGLE_API_TOKEN", "abcdef"), "KAGGLE_API_TOKEN"),
        (lambda home, env: (home / ".kaggle/access_token").write_text("abcdef"), ".kaggle/access_token"),
        (lambda home, env: (env("KAGGLE_USERNAME", "u"), env("KAGGLE_KEY", "kkkk")), "KAGGLE_USERNAME and KAGGLE_KEY"),
        (
            lambda home, env: (home / ".kaggle/kaggle.json").write_text('{"username": "u", "key": "kkkk"}'),
            "kaggle.json",
        ),
        (
            lambda home, env: (home / ".kaggle/credentials.json").write_text('{"refresh_token": "rrrr"}'),
            "credentials.json",
        ),
    ],
)
def test_credentials_are_found_in_the_clients_order(no_credentials, monkeypatch, make, source):
    (no_credentials / ".kaggle").mkdir()
    assert kaggle_credentials.find() is None
    make(no_credentials, monkeypatch.setenv)
    found = kaggle_credentials.find()
    assert found.source.endswith(source)
    assert not any(secret in repr(found) for secret in kaggle_credentials.secrets())
    assert len(kaggle_credentials.secrets()) == 1


def test_half_a_key_and_damaged_files_are_no_credentials(no_credentials, monkeypatch):
    (no_credentials / ".kaggle").mkdir()
    (no_credentials / ".kaggle/kaggle.json").write_text("{oops")
    monkeypatch.setenv("KAGGLE_USERNAME", "u")
    assert kaggle_credentials.find() is None


def test_a_readable_key_file_is_warned_of_and_spoils_no_output(no_credentials, fake_kaggle, monkeypatch, capsys):
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (no_credentials / ".kaggle").mkdir()
    (no_credentials / ".kaggle/kaggle.json").write_text('{"username": "u", "key": "kkkkkk"}')
    (no_credentials / ".kaggle/kaggle.json").chmod(0o644)
    assert "chmod 600" in kaggle_credentials.find().warning
    (no_credentials / ".kaggle/kaggle.json").chmod(0o600)
    assert kaggle_credentials.find().warning == ""


def test_a_wrong_token_in_front_of_a_right_key_is_named(fake_kaggle, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "wrong-token")
    with pytest.raises(UserError, match="does not accept the credentials from KAGGLE_API_TOKEN"):
        kaggle_client.Kaggle()
    monkeypatch.setenv("KAGGLE_USERNAME", "u")
    monkeypatch.setenv("KAGGLE_KEY", "right-key")
    fake_kaggle.faults["GetSubmissionLimits"] = [Fault(401, {"code": 401, "message": "Unauthorized"})]
    with pytest.raises(UserError, match="refused the credentials from KAGGLE_API_TOKEN"):
        kaggle_client.Kaggle().limits(SLUG)
    assert fake_kaggle.authorizations[-1] == "Bearer wrong-token"


def test_a_token_longer_than_a_file_name_is_told_where_to_go(fake_kaggle, no_credentials, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "x" * 300)
    with pytest.raises(UserError, match=r"save it as ~/.kaggle/access_token"):
        kaggle_client.Kaggle()


def test_logging_in_without_a_network_is_said(fake_kaggle):
    fake_kaggle.faults["IntrospectToken"] = [Fault(drop="before")] * 9
    with pytest.raises(Unavailable, match=r"the connection to Kaggle .*failed while trying to log in"):
        kaggle_client.Kaggle()


def test_no_secret_reaches_a_message_or_the_output(fake_kaggle, monkeypatch, csv, capfd):
    monkeypatch.setenv("VERBOSE", "1")
    kaggle = kaggle_client.Kaggle()
    kaggle._api.args.append("--verbose")  # as it is when the package was imported with VERBOSE=1
    kaggle._client = kaggle._api.build_kaggle_client()
    told = []
    spill = f"token {TOKEN} at http://localhost/upload/x?{SIGNATURE} refused"
    for faults in (
        {"StartSubmissionUpload": [Fault(400, {"code": 400, "message": spill})]},
        {"CreateSubmission": [Fault(200, {"message": spill, "ref": 0})]},
        {"PUT": [Fault(drop="before")] * 3},
        {"PUT": [Fault(403, spill.encode())] * 3},
    ):
        fake_kaggle.faults = faults
        with pytest.raises(UserError) as caught:
            submit(kaggle, csv)
        told.append(str(caught.value))
    kaggle._api.args.remove("--verbose")
    out, err = capfd.readouterr()
    for text in (*told, out, err, repr(kaggle_credentials.find())):
        assert TOKEN not in text
        assert SIGNATURE not in text


def test_nothing_leaves_this_machine(fake_kaggle):
    import requests

    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://www.kaggle.com", timeout=5)
