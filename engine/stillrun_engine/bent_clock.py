"""Holds the clock: it begins at STILLRUN_CLOCK, in seconds since 1970, and goes on by a millisecond each time it is asked.

A script that nobody imports: vary.py makes it the sitecustomize of a replay. Only what waits and what C code asks of the
system goes by the real clock: time.monotonic, time.sleep.
"""

import ctypes
import datetime
import gc
import itertools
import os
import time

_TICK = 1_000_000
_START = int(float(os.environ.get("STILLRUN_CLOCK", "0")) * 1e9)
_ticks = itertools.count()
_gmtime, _localtime, _strftime, _clock_gettime = time.gmtime, time.localtime, time.strftime, time.clock_gettime


def _since_start():
    return next(_ticks) * _TICK


def _now():
    return _START + _since_start()


def _moment(cls, tz=None):
    return cls.fromtimestamp(_now() / 1e9, tz)


def _moment_in_utc(cls):
    return cls.fromtimestamp(_now() / 1e9, datetime.timezone.utc).replace(tzinfo=None)


def _clock(which):
    return _now() / 1e9 if which == time.CLOCK_REALTIME else _clock_gettime(which)


def _bend_datetime():
    """Its methods ask the system and not Python; they are replaced in the type itself, so that its values stay what they are."""
    names = gc.get_referents(datetime.datetime.__dict__)[0]
    names["now"], names["utcnow"] = classmethod(_moment), classmethod(_moment_in_utc)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))


time.time = lambda: _now() / 1e9
time.time_ns = _now
time.perf_counter = time.process_time = time.thread_time = lambda: _since_start() / 1e9
time.perf_counter_ns = time.process_time_ns = time.thread_time_ns = _since_start
time.clock_gettime = _clock
time.gmtime = lambda seconds=None: _gmtime(_now() / 1e9 if seconds is None else seconds)
time.localtime = lambda seconds=None: _localtime(_now() / 1e9 if seconds is None else seconds)
time.strftime = lambda form, moment=None: _strftime(form, time.localtime() if moment is None else moment)
time.ctime = lambda seconds=None: time.asctime(time.localtime(seconds))
_asctime = time.asctime
time.asctime = lambda moment=None: _asctime(time.localtime() if moment is None else moment)
_bend_datetime()
