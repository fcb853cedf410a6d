"""Write permits for tests that are not about leases."""


class Unlimited:
    """Implements `WritePermit`: the right never ends."""

    async def confirm(self) -> float:
        return 60.0


UNLIMITED = Unlimited()
