"""Sending from Celery: a task that sends once, however often it runs."""

from collections.abc import Callable
from typing import Any, Final

from celery import Celery, Task

from speedsms import SpeedSMS, SpeedSMSError

_LONGEST_S: Final = 600


def send_task(app: Celery, client: Callable[[], SpeedSMS], **options: Any) -> Task:
    """The task `speedsms.send`: arguments as those of `SpeedSMS.send`, the result is a dictionary.

    The key of the call is the id of the task. So when it runs again, after a retry, a killed worker or a
    second delivery by the broker, it sends and charges once, wherever keys are honoured. The vendor's service
    honours none: give `acks_late=False` there, which rather loses a message than sends it twice. Retried is
    only what was certainly not sent, or can be repeated with its key; everything else fails the task.

    client: gives the client, asked at each run; make it with `honours_keys=True` for your own gateway.
    options: those of `app.task`.
    """

    def send(task: Task, to: str | list[str], content: str, **more: Any) -> dict[str, Any]:
        try:
            sent = client().send(to, content, key=task.request.id, **more)
        except SpeedSMSError as error:
            if not error.retryable:
                raise
            wait_s = max(error.retry_after_s or 0, min(2**task.request.retries, _LONGEST_S))
            raise task.retry(exc=error, countdown=wait_s) from error
        return {
            "tran_id": sent.tran_id,
            "total_sms": sent.total_sms,
            "total_vnd": sent.total_vnd,
            "invalid_phones": list(sent.invalid_phones),
        }

    chosen = {"name": "speedsms.send", "max_retries": 10, "acks_late": True, "reject_on_worker_lost": True}
    return app.task(send, bind=True, **chosen | options)
