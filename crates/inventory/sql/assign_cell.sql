-- Gives the ids of this cell a range of their own, so that no two cells give out the same id: 10^13 ids for each cell,
-- exact as JSON numbers for the cells 0 to 899. Fails if ids of another cell were given out here. May be repeated.
create or replace function assign_cell_v1(cell integer)
returns void
language plpgsql
as $$
#variable_conflict use_variable
declare
  range constant bigint := 10000000000000;
  first_id constant bigint := cell * range + 1;
  last_id constant bigint := cell * range + range - 1;
  sequence record;
begin
  if cell not between 0 and 899 then
    raise exception 'the number of a cell is 0 to 899, not %', cell;
  end if;
  for sequence in
    -- assign cell: the sequences
    select s.seqrelid::regclass as name, pg_sequence_last_value(s.seqrelid) as last
    from pg_sequence s
    join pg_class c on c.oid = s.seqrelid
    where c.relnamespace = current_schema()::regnamespace and pg_has_role(c.relowner, 'usage')
  loop
    if sequence.last is null then
      execute format('alter sequence %s minvalue %s maxvalue %s start %s restart', sequence.name, first_id, last_id, first_id);
    elsif sequence.last between first_id and last_id then
      execute format('alter sequence %s minvalue %s maxvalue %s start %s', sequence.name, first_id, last_id, first_id);
    else
      raise exception '% has given out the id %, which is not of cell % (% to %)',
        sequence.name, sequence.last, cell, first_id, last_id;
    end if;
  end loop;
end
$$;
