"""Smoke tests of Celery: one class for each queue of the site's app, and one for beat."""

from __future__ import annotations

from smoketest.contrib.celery.cases import BeatTest, QueueTest
from smoketest.contrib.celery.conf import conf
from smoketest.contrib.celery.survey import Survey
from smoketest.contrib.celery.targets import site_app, site_queues
from smoketest.contrib.variants import define

_app = site_app()
_queues = site_queues(_app)
_survey = Survey(_app, _queues, conf.reply_timeout)

for _queue in _queues:
    define(globals(), QueueTest, _queue, queue=_queue, app=_app, survey=_survey)

if conf.beat:
    define(globals(), BeatTest, "celery", app=_app, survey=_survey)
