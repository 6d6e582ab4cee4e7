"""What people are written about, and when."""

from collections.abc import Iterator
from typing import Literal

from commands.kernel import (
    Job,
    job,
    policy,
)
from domain.people import (
    EmailAdded,
    EmailChanged,
    EmailLetterRequested,
    EmailRequested,
    PasswordChanged,
    PasswordReset,
    PasswordResetRequested,
    SecondFactorAdded,
    SecondFactorRemoved,
)

Letter = Literal[
    "appeal_accepted",
    "appeal_rejected",
    "banned",
    "banned_until",
    "confirm_email",
    "email_changed",
    "password_changed",
    "password_reset",
    "second_factor_added",
    "second_factor_removed",
]


@job
class SendLetter(Job):
    """Write to a person; what the letter opens is made when it is sent, and kept nowhere else."""

    person_id: str
    letter: Letter
    about: str = ""
    """The id of what the letter speaks of, where that is not the person."""


@policy(EmailAdded)
def ask_to_confirm(event: EmailAdded) -> Iterator[Job]:
    """An address is confirmed by whoever gets the letters to it."""
    if not event.confirmed:
        yield SendLetter(person_id=event.person_id, letter="confirm_email")


@policy(EmailRequested)
def ask_to_confirm_another(event: EmailRequested) -> Iterator[Job]:
    """An address is confirmed by whoever gets the letters to it."""
    yield SendLetter(person_id=event.person_id, letter="confirm_email")


@policy(EmailLetterRequested)
def ask_again_to_confirm(event: EmailLetterRequested) -> Iterator[Job]:
    """A letter may get lost."""
    yield SendLetter(person_id=event.person_id, letter="confirm_email")


@policy(EmailChanged)
def tell_former_address(event: EmailChanged) -> Iterator[Job]:
    """Whoever gets the letters to the former address may not be who changed it."""
    if event.former:
        yield SendLetter(person_id=event.person_id, letter="email_changed")


@policy(PasswordResetRequested)
def send_reset(event: PasswordResetRequested) -> Iterator[Job]:
    """A password is replaced by whoever gets the letters to the account's address."""
    yield SendLetter(person_id=event.person_id, letter="password_reset")


@policy(PasswordChanged)
def tell_of_change(event: PasswordChanged) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="password_changed")


@policy(PasswordReset)
def tell_of_reset(event: PasswordReset) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="password_changed")


@policy(SecondFactorAdded)
def tell_of_second_factor(event: SecondFactorAdded) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="second_factor_added")


@policy(SecondFactorRemoved)
def tell_of_removal(event: SecondFactorRemoved) -> Iterator[Job]:
    """People are told of what somebody else may have done."""
    yield SendLetter(person_id=event.person_id, letter="second_factor_removed")
