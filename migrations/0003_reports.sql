-- Daily reports. Small tables: one row a day, a recipient or a run; they span users, so they carry none.

-- A report's period is the events with at <= cut_at and txid < txid_upper that its predecessor's bounds
-- did not hold. Bounds only grow along the chain of reports, so every event is in exactly one period.
create table reports (
    report_date         date        primary key,
    time_zone           text        not null,
    cut_at              timestamptz not null,
    txid_upper          xid8        not null,
    -- Null for the first report, which takes everything up to its cut.
    previous_date       date        unique references reports (report_date),
    previous_cut_at     timestamptz,
    previous_txid_upper xid8,
    sealed_at           timestamptz not null,
    content             json,
    html                text,
    plain               text,
    computed_at         timestamptz,
    constraint reports_in_order check (previous_date < report_date),
    constraint reports_bounds_grow check (cut_at >= previous_cut_at and txid_upper >= previous_txid_upper),
    constraint reports_previous_is_whole check (
        (previous_date is null) = (previous_cut_at is null)
        and (previous_date is null) = (previous_txid_upper is null)),
    constraint reports_content_is_whole check (
        (computed_at is null) = (content is null)
        and (computed_at is null) = (html is null)
        and (computed_at is null) = (plain is null))
);
-- Only one report can be the first: with the unique previous_date the reports form one chain.
create unique index reports_one_first on reports ((previous_date is null)) where previous_date is null;

create function report_is_sealed() returns trigger language plpgsql as $$
begin
    if (new.report_date, new.time_zone, new.cut_at, new.txid_upper, new.previous_date,
        new.previous_cut_at, new.previous_txid_upper, new.sealed_at)
       is distinct from
       (old.report_date, old.time_zone, old.cut_at, old.txid_upper, old.previous_date,
        old.previous_cut_at, old.previous_txid_upper, old.sealed_at) then
        raise exception 'the period of report % is sealed', old.report_date
            using errcode = 'integrity_constraint_violation';
    end if;
    if old.computed_at is not null then
        raise exception 'report % was computed and never changes', old.report_date
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

-- A period continues where its predecessor ended: neither a gap nor an overlap can be written.
create function report_follows_its_predecessor() returns trigger language plpgsql as $$
begin
    if new.previous_date is not null and not exists (
        select from reports r
        where r.report_date = new.previous_date
          and r.cut_at = new.previous_cut_at and r.txid_upper = new.previous_txid_upper) then
        raise exception 'report % does not continue report %', new.report_date, new.previous_date
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.txid_upper > pg_snapshot_xmin(pg_current_snapshot()) then
        raise exception 'report % would hold transactions that are not finished', new.report_date
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create trigger reports_follow before insert on reports
    for each row execute function report_follows_its_predecessor();
create trigger reports_sealed before update on reports
    for each row execute function report_is_sealed();
create trigger reports_kept before delete on reports
    for each row execute function refuse_change();

-- One mail to one recipient. It is claimed before it is sent and marked after; a claim that was
-- abandoned (a killed job) can be taken again once claimed_until has passed, with the same Message-ID.
create table report_deliveries (
    report_date   date        not null references reports (report_date),
    recipient     text        not null check (char_length(recipient) between 3 and 320),
    message_id    text        not null,
    state         text        not null check (state in ('pending', 'sending', 'sent', 'failed', 'cancelled')),
    attempts      integer     not null default 0 check (attempts >= 0),
    transport     text,
    detail        text        check (char_length(detail) <= 1000),
    claimed_until timestamptz,
    created_at    timestamptz not null,
    updated_at    timestamptz not null,
    sent_at       timestamptz,
    primary key (report_date, recipient),
    constraint report_deliveries_sent_at check ((state = 'sent') = (sent_at is not null)),
    constraint report_deliveries_claim check ((state = 'sending') = (claimed_until is not null))
);
create index report_deliveries_open on report_deliveries (created_at) where state not in ('sent', 'cancelled');

create function sent_is_final() returns trigger language plpgsql as $$
begin
    if old.state = 'sent' or new.message_id <> old.message_id then
        raise exception 'report % was sent to this recipient', old.report_date
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create trigger report_deliveries_sent before update on report_deliveries
    for each row execute function sent_is_final();

-- What each run of report-job did. The job lives for seconds, so api-service shows this as metrics.
create table report_runs (
    run_id         uuid        primary key,
    started_at     timestamptz not null,
    finished_at    timestamptz not null,
    result         text        not null check (result in ('delivered', 'nothing_to_do', 'delivery_failed', 'failed')),
    report_date    date,
    collect_millis bigint      not null check (collect_millis >= 0),
    render_millis  bigint      not null check (render_millis >= 0),
    send_millis    bigint      not null check (send_millis >= 0),
    mails_sent     integer     not null check (mails_sent >= 0),
    mails_failed   integer     not null check (mails_failed >= 0),
    transport      text,
    detail         text        check (char_length(detail) <= 1000)
);
create index report_runs_by_time on report_runs (finished_at);
