"""All timers of a bundle fire within it: what a fired timer sets or clears counts before the next one fires."""

from __future__ import annotations

from apache_beam import coders
from apache_beam.transforms.userstate import TimeDomain
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN

from beam_pipeline.runner.beam_internals import bundle_processor
from beam_pipeline.runner.worker.channel import BundleChannel
from beam_pipeline.runner.worker.timers import TimerQueue

CODER = coders.coders._TimerCoder(coders.StrUtf8Coder(), coders.coders.GlobalWindowCoder()).get_impl()


def test_timers_fire_behind_the_input_and_obey_the_ones_before() -> None:
    channel, log = BundleChannel({}), []

    def timer(family: str) -> bundle_processor.OutputTimer:
        stream = channel.output_timer_stream("bundle", "t", family)
        at = Timestamp(0)
        return bundle_processor.OutputTimer(
            "key", GlobalWindow(), at, PANE_INFO_UNKNOWN, TimeDomain.WATERMARK, family, CODER, stream
        )

    def feed() -> None:
        log.append("input")
        timer("first").set(10)
        timer("second").set(20)
        timer("third").set(30)

    channel.begin(feed, TimerQueue({("t", family): CODER for family in ("first", "second", "third")}))
    for fired in channel.input_elements("bundle", []):
        [setting] = CODER.decode_all(fired.timers)
        log.append(f"{fired.timer_family_id} at {float(setting.fire_timestamp)}")
        if log[-1] == "first at 10.0":
            timer("second").clear()
            timer("first").set(40)
    assert log == ["input", "first at 10.0", "third at 30.0", "first at 40.0"]


def test_without_timers_the_input_is_all() -> None:
    channel, log = BundleChannel({}), []
    channel.begin(lambda: log.append("input"), None)
    assert list(channel.input_elements("bundle", [])) == []
    assert log == ["input"]
