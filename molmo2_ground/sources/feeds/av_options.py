"""How FFmpeg is to open each kind of stream: live, soon, within limits, and nothing but the stream."""

from __future__ import annotations

from molmo2_ground.sources.feeds.feed import Timeouts
from molmo2_ground.sources.picture import MAX_PIXELS

# What each may open in turn. No `file`, `concat`, `subfile` or `data` anywhere: a playlist or a redirect
# must not make this machine's files part of a film.
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp,udp",
    "rtsps": "rtsps,rtsp,rtp,tls,tcp,udp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "http": "http,https,tls,tcp,crypto",
    "https": "http,https,tls,tcp,crypto",
    "udp": "udp",
    "srt": "srt,udp",
}
_HTTP_FORMATS = "mpegts,hls,mpjpeg,mjpeg,mov,mp4,m4a,matroska,webm,flv,h264,hevc,aac,mp3,webvtt"
_FORMATS = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "rtmp": "flv,live_flv",
    "rtmps": "flv,live_flv",
    "http": _HTTP_FORMATS,
    "https": _HTTP_FORMATS,
    "udp": "mpegts,h264,hevc,mjpeg",
    "srt": "mpegts",
}


def live_options(scheme: str, timeouts: Timeouts) -> dict[str, str]:
    """Options for `av.open`, by FFmpeg's names; times are microseconds there.

    Little is read ahead to learn what the stream is (0.2 MB or half a second), so it opens soon. What is read
    ahead is kept (no `nobuffer`): it holds the picture that stands by itself, and the next may be ten
    seconds away.
    """
    read_us = str(round(timeouts.read_s * 1e6))
    options = {
        "probesize": "200000",
        "analyzeduration": "500000",
        "max_pixels": str(MAX_PIXELS),
        "protocol_whitelist": _PROTOCOLS[scheme],
        "format_whitelist": _FORMATS[scheme],
    }
    if scheme in ("rtsp", "rtsps"):
        # By TCP nothing is lost on the way; sound is not even asked for. The server describes its stream, so
        # nothing has to be read ahead.
        options |= {"rtsp_transport": "tcp", "allowed_media_types": "video", "timeout": read_us}
        options |= {"probesize": "32", "analyzeduration": "0"}
    elif scheme in ("rtmp", "rtmps"):
        options |= {"rtmp_live": "live", "rw_timeout": read_us}
    else:
        # A picture of which a part was lost is left out: FFmpeg would fill it in from its neighbours and not
        # say so.
        options["fflags"] = "discardcorrupt"
        if scheme == "udp":
            options |= {"timeout": read_us, "overrun_nonfatal": "1", "buffer_size": "4194304"}
        else:
            options["rw_timeout"] = read_us
    return options
