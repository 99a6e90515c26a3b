"""Operations about the server itself."""

from importlib.metadata import version

from gatepost.model.user import Need
from gatepost.web.api.operation import Call, NoBody, NoParameters, Operation
from gatepost.web.api.responses import Counts, Info

__all__ = ["VERSION", "operations"]

VERSION = version("gatepost")


async def _info(call: Call[NoParameters, NoBody]) -> Info:
    desk = call.desk
    return Info(
        version=VERSION,
        mode=desk.mode,
        smtp=list(desk.smtp),
        can_release=desk.release is not None,
        forwards_to=str(desk.forward.settings) if desk.forward else None,
        counts=Counts.model_validate(await desk.call(desk.mailbox.counts)),
    )


operations = (
    Operation(
        method="GET",
        path="/info",
        name="readInfo",
        needs=Need.READ,
        group="Server",
        summary="Version, mode, addresses and counts",
        run=_info,
        answer=Info,
    ),
)
