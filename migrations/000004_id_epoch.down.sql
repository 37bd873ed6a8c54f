drop table id_epoch;
