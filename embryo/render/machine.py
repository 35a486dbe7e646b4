"""What this machine lacks, in sentences for the report."""

from embryo.render import ffmpeg, gl


def notes() -> tuple[str, ...]:
    """Return one sentence per missing ability, with its cure; none where pictures and films are made as intended."""
    return tuple(note for note in (gl.probe().note, ffmpeg.probe().note) if note)
