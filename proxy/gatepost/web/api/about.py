"""Operations about the server itself."""

from importlib.metadata import version

from gatepost.web.api.answers import Counts, Info
from gatepost.web.api.operation import Call, NoBody, NoParameters, Operation

__all__ = ["VERSION", "operations"]

VERSION = version("gatepost")


async def _info(call: Call[NoParameters, NoBody]) -> Info:
    desk = call.desk
    return Info(
        version=VERSION,
        mode=desk.mode,
        smtp=list(desk.smtp),
        can_release=desk.release is not None,
        counts=Counts.model_validate(await desk.call(desk.mailbox.counts)),
    )


operations = (
    Operation(
        method="GET",
        path="/info",
        name="readInfo",
        group="Server",
        summary="Version, mode, addresses and counts",
        run=_info,
        answer=Info,
    ),
)
