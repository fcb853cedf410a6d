"""What happened to a failed image, and what a person can do about it, by cause. The pages and the
commands say the same, and translate it."""

from imgsync.domain.diff import FailureCause
from imgsync.entrypoints.translation import marked

HAPPENED = {
    FailureCause.TOO_LARGE: marked("The picture is larger than the child account takes."),
    FailureCause.NO_PICTURE: marked("The file in the main account is no whole picture."),
    FailureCause.NOT_MADE: marked("The picture could not be converted or made smaller."),
    FailureCause.NOT_DOWNLOADED: marked("The picture could not be fetched from the main account."),
    FailureCause.REFUSED: marked("The child account does not take this file."),
    FailureCause.NOT_SENT: marked("The picture could not be sent to the child account."),
    FailureCause.PLUGIN: marked("An extension of imgsync stopped the picture."),
}
ADVICE = {
    FailureCause.TOO_LARGE: marked(
        "make it smaller in the main account, or let the settings of the link fit large pictures"
    ),
    FailureCause.NO_PICTURE: marked(
        "put a whole JPEG or PNG file in its place in the main account"
    ),
    FailureCause.NOT_MADE: marked(
        "nothing; if it stays so, put a smaller JPEG or PNG file in its place in the main account"
    ),
    FailureCause.NOT_DOWNLOADED: marked("see whether the main account still shows it"),
    FailureCause.REFUSED: marked("put another file in its place in the main account"),
    FailureCause.NOT_SENT: marked(
        "nothing; if it stays so, see whether the child account takes requests at all"
    ),
    FailureCause.PLUGIN: marked("see what the plugin that the reason names needs"),
}
