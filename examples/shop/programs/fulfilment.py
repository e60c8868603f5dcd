"""Order fulfilment, durable: reserve, ask a person where it is dear, charge, write to the customer; or undo it all."""

import asyncio
import json
import os
import urllib.error
import urllib.request
from datetime import timedelta
from typing import Any

import msgspec

from keyleaf import (
    EventTimeout,
    Retry,
    Secret,
    activity,
    activity_info,
    compensating,
    gather,
    orchestration,
    secret,
    set_status,
    wait_for_event,
)

DEAR = 100
"""Orders above this need a person's word."""


class Order(msgspec.Struct):
    number: int
    articles: list[str]
    total: int


class WrongKey(Exception):
    """The other side did not take the API key."""


class OutOfStock(Exception):
    """Trying again will not help."""


async def post(url: str, key: Secret, body: dict[str, Any]) -> Any:
    def send() -> Any:
        request = urllib.request.Request(
            url, data=json.dumps(body).encode(), headers={"Authorization": f"Bearer {key.reveal()}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise WrongKey(url) from None
            raise

    return await asyncio.to_thread(send)


@activity(
    secrets={"key": secret("stock-api-key")},
    authentication_errors=(WrongKey,),
    retry=Retry(max_attempts=5, first=0.2, on=(OSError,)),
)
async def reserve(article: str, key: Secret) -> str:
    mark = activity_info().idempotency_key
    answer = await post(f"{os.environ['WAREHOUSE_URL']}/reserve", key, {"article": article, "key": mark})
    if not answer["reserved"]:
        raise OutOfStock(article)
    return mark


@activity(secrets={"key": secret("stock-api-key")}, authentication_errors=(WrongKey,), retry=Retry(max_attempts=20))
async def release(reservation: str, key: Secret) -> None:
    await post(f"{os.environ['WAREHOUSE_URL']}/release", key, {"key": reservation})


@activity(
    secrets={"key": secret("payments-api-key")},
    authentication_errors=(WrongKey,),
    retry=Retry(max_attempts=5, first=0.2, on=(OSError,)),
)
async def charge(order: Order, key: Secret) -> bool:
    answer = await post(f"{os.environ['PROVIDER_URL']}/charge", key, {"order": order.number, "total": order.total})
    return bool(answer["charged"])


@activity(secrets={"key": secret("mail-api-key")}, authentication_errors=(WrongKey,), retry=Retry(max_attempts=20))
async def write(order: Order, text: str, key: Secret) -> None:
    mark = activity_info().idempotency_key
    await post(f"{os.environ['WAREHOUSE_URL']}/mail", key, {"key": mark, "text": f"Order {order.number}: {text}"})


@orchestration
async def fulfil(order: Order) -> str:
    async with compensating() as undo:
        set_status("reserving")
        outcomes = await gather(*[reserve(article) for article in order.articles], return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, str):
                undo.add(release, outcome)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        if order.total > DEAR:
            set_status("waits for approval")
            try:
                approved = await wait_for_event("approved", timeout=timedelta(hours=24), type=bool)
            except EventTimeout:
                approved = False
            if not approved:
                raise ValueError(f"order {order.number} was not approved")
        set_status("charging")
        await charge(order)
    await write(order, "it is on its way")
    set_status("shipped")
    return f"order {order.number} shipped"
