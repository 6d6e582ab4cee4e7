"""Second factors: what is asked for beside the password, and what stands in for it."""

from collections.abc import Iterator

from commands.kernel import Command, Context, command
from domain.kernel import Event, require
from domain.people import (
    Person,
    RecoveryCodesRenewed,
    RecoveryCodeUsed,
    SecondFactorAdded,
    SecondFactorRemoved,
)


@command(person_id=Person)
class AddSecondFactor(Command):
    """Ask for a second factor, which the person has just shown, at every sign-in from now on."""

    person_id: str
    factor_id: str

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if person.second_factor == self.factor_id:
            return
        require(not person.second_factor, "second_factor_on")
        yield SecondFactorAdded(person_id=self.person_id, factor_id=self.factor_id)


@command(person_id=Person)
class RemoveSecondFactor(Command):
    """Ask for the password alone again."""

    person_id: str
    factor_id: str

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if self.factor_id and person.second_factor == self.factor_id:
            yield SecondFactorRemoved(person_id=self.person_id, factor_id=self.factor_id)


@command(person_id=Person)
class RenewRecoveryCodes(Command):
    """Note that the recovery codes, which had been replaced `renewals` times, are others now."""

    person_id: str
    renewals: int

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        require(person.second_factor, "second_factor_off")
        if person.renewals == self.renewals:
            yield RecoveryCodesRenewed(person_id=self.person_id)


@command(person_id=Person)
class UseRecoveryCode(Command):
    """Note that a recovery code was taken in the place of the second factor."""

    person_id: str
    code_id: str

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if self.code_id not in person.used_codes:
            yield RecoveryCodeUsed(person_id=self.person_id, code_id=self.code_id)
