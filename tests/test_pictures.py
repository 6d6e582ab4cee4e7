"""The rules of pictures: who has which, and what is let go of."""

import pytest

from commands.kernel import Command, Job
from commands.pictures import (
    ChangeAvatar,
    ChangeLogo,
    RemoveAvatar,
    RemoveLogo,
    SettlePicture,
    settle_avatar,
    settle_logo,
)
from domain.people import AvatarChanged
from domain.personal import personal_fields
from domain.tenancy import MAIN, LogoChanged
from tests.histories import avatar_changed, logo_changed
from tests.scenario import NEW, GivenEvents

FACE, MARK = "c" * 64, "d" * 64
NO_FACE = AvatarChanged(person_id="ana", replaced="a1")


def test_a_picture_replaces_the_one_before(given: GivenEvents) -> None:
    changed = AvatarChanged(person_id="ana", picture_id=NEW, sha256=FACE, replaced="a1")
    given(avatar_changed).when(ChangeAvatar(sha256=FACE), by="ana").then(changed)


def test_the_same_picture_again_changes_nothing(given: GivenEvents) -> None:
    given(avatar_changed).when(ChangeAvatar(sha256="a" * 64), by="ana").then_nothing()


def test_a_picture_is_ones_own(given: GivenEvents) -> None:
    given(avatar_changed).when(RemoveAvatar(), by="ben").then_nothing()


def test_who_takes_their_picture_away_has_none(given: GivenEvents) -> None:
    given(avatar_changed).when(RemoveAvatar(), by="ana").then(NO_FACE)


def test_who_has_no_picture_takes_none_away(given: GivenEvents) -> None:
    given(avatar_changed, NO_FACE).when(RemoveAvatar(), by="ana").then_nothing()


def test_no_picture_is_replaced_after_it_was_taken_away(given: GivenEvents) -> None:
    changed = AvatarChanged(person_id="ana", picture_id=NEW, sha256="a" * 64)
    again = ChangeAvatar(sha256="a" * 64)
    given(avatar_changed, NO_FACE).when(again, by="ana").then(changed)


def test_an_administrator_changes_the_logo(given: GivenEvents) -> None:
    changed = LogoChanged(tenant_id=MAIN, picture_id=NEW, sha256=MARK, replaced="l1")
    given(logo_changed).when(ChangeLogo(sha256=MARK), by="aida").then(changed)


def test_the_same_logo_again_changes_nothing(given: GivenEvents) -> None:
    given(logo_changed).when(ChangeLogo(sha256="b" * 64), by="aida").then_nothing()


def test_an_administrator_takes_the_logo_away(given: GivenEvents) -> None:
    given(logo_changed).when(RemoveLogo(), by="aida").then(
        LogoChanged(tenant_id=MAIN, replaced="l1")
    )


@pytest.mark.parametrize("command", [ChangeLogo(sha256=MARK), RemoveLogo()])
def test_nobody_else_changes_the_logo(given: GivenEvents, command: Command) -> None:
    given(logo_changed).when(command, by="meder").then_rejected("permission_denied")


def test_what_follows_a_change_is_one_job() -> None:
    changed = AvatarChanged(person_id="ana", picture_id="a2", sha256=FACE, replaced="a1")
    settled: Job = SettlePicture(subject="avatar/ana", picture_id="a2", replaced="a1")
    assert list(settle_avatar.react(changed)) == [settled]
    gone = LogoChanged(tenant_id=MAIN, replaced="l1")
    dropped: Job = SettlePicture(subject="logo", picture_id="", replaced="l1")
    assert list(settle_logo.react(gone)) == [dropped]


def test_the_digest_of_a_face_is_personal() -> None:
    assert personal_fields(AvatarChanged) == {"sha256": "person_id"}
    assert personal_fields(LogoChanged) == {}
