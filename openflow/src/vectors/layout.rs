//! Names of the fields that a decoder reads, as the specifications name them, for the comments in the vectors.

use crate::Field;

/// A read: where it starts, how many bytes, of which structure.
pub(super) type Read = (usize, usize, &'static str);

/// Fields of structures that always look the same; after the last one comes padding.
const STRUCTURES: &[(&str, &str)] = &[
    ("ofp_header", "version type length xid"),
    ("OFPT_ECHO_REQUEST", "data"),
    ("OFPT_ECHO_REPLY", "data"),
    ("OFPT_FEATURES_REPLY", "datapath_id n_buffers n_tables auxiliary_id pad capabilities reserved"),
    ("OFPT_GET_CONFIG_REPLY", "flags miss_send_len"),
    ("OFPT_SET_CONFIG", "flags miss_send_len"),
    ("OFPT_PACKET_IN", "buffer_id total_len reason table_id cookie pad data"),
    ("OFPT_PACKET_OUT", "buffer_id in_port actions_len pad data"),
    (
        "OFPT_FLOW_REMOVED",
        "cookie priority reason table_id duration_sec duration_nsec idle_timeout hard_timeout packet_count byte_count",
    ),
    ("OFPT_PORT_STATUS", "reason pad"),
    ("OFPT_PORT_MOD", "port_no pad hw_addr pad config mask advertise pad"),
    ("OFPT_TABLE_MOD", "table_id pad config"),
    ("OFPT_METER_MOD", "command flags meter_id"),
    ("OFPT_ROLE_REQUEST", "role pad generation_id"),
    ("OFPT_ROLE_REPLY", "role pad generation_id"),
    ("OFPT_QUEUE_GET_CONFIG_REQUEST", "port pad"),
    ("OFPT_QUEUE_GET_CONFIG_REPLY", "port pad"),
    ("OFPT_GET_ASYNC_REPLY", ASYNC),
    ("OFPT_SET_ASYNC", ASYNC),
    ("ofp_hello_elem", "type length"),
    ("ofp_hello_elem_versionbitmap", "bitmap"),
    (
        "ofp_flow_mod",
        "cookie cookie_mask table_id command idle_timeout hard_timeout priority buffer_id out_port out_group flags pad",
    ),
    ("ofp_match", "type length pad"),
    ("ofp_group_mod", "command type pad group_id"),
    ("ofp_bucket", "len weight watch_port watch_group pad"),
    ("ofp_port", PORT),
    ("ofp_packet_queue", "queue_id port len pad"),
    ("ofp_queue_prop", "property len pad rate pad"),
    ("ofp_aggregate_stats", "packet_count byte_count flow_count pad"),
    ("ofp_desc", "mfr_desc hw_desc sw_desc serial_num dp_desc"),
    ("ofp_flow_stats_request", "table_id pad out_port out_group pad cookie cookie_mask"),
    (
        "ofp_flow_stats",
        "length table_id pad duration_sec duration_nsec priority idle_timeout hard_timeout flags pad cookie \
         packet_count byte_count",
    ),
    ("ofp_table_stats", "table_id pad active_count lookup_count matched_count"),
    (
        "ofp_port_stats",
        "port_no pad rx_packets tx_packets rx_bytes tx_bytes rx_dropped tx_dropped rx_errors tx_errors rx_frame_err \
         rx_over_err rx_crc_err collisions duration_sec duration_nsec",
    ),
    ("ofp_queue_stats", "port_no queue_id tx_bytes tx_packets tx_errors duration_sec duration_nsec"),
    ("ofp_group_desc", "length type pad group_id"),
    (
        "ofp_group_features",
        "types capabilities max_groups[all] max_groups[select] max_groups[indirect] max_groups[ff] actions[all] \
         actions[select] actions[indirect] actions[ff]",
    ),
    ("ofp_meter_config", "length flags meter_id"),
    ("ofp_meter_features", "max_meter band_types capabilities max_bands max_color pad"),
    ("ofp_table_features", "length table_id pad name metadata_match metadata_write config max_entries"),
    ("nx_packet_in", "buffer_id total_len reason table_id cookie match_len pad"),
    ("nx_packet_in.data", "pad data"),
    ("onf_flow_monitor_request", "id flags match_len out_port table_id zeros"),
    ("onf_bundle_add", "bundle_id pad flags message.version message.type message.length message.xid"),
    ("onf_bundle_control", "bundle_id type flags"),
    ("nx_tlv_map", "option_class option_type option_len index pad"),
    ("nx_action_cnt_ids", "cnt_id"),
    ("nx_action_bundle", "algorithm fields basis member_type n_members ofs_nbits dst zeros"),
    ("nx_action_bundle.members", "member"),
    ("nx_action_controller2", "zeros"),
    ("nx_action_conntrack", "flags zone_src zone_ofs_nbits recirc_table pad alg"),
    ("nx_action_nat", "pad flags range_present range"),
    (
        "nx_action_encap",
        "hdr_size new_pkt_type.ns new_pkt_type.ns_type prop.class prop.type prop.len prop.data pad",
    ),
];
const ASYNC: &str = "packet_in_mask[master] packet_in_mask[slave] port_status_mask[master] port_status_mask[slave] \
                     flow_removed_mask[master] flow_removed_mask[slave]";
const PORT: &str =
    "port_no pad hw_addr pad name config state curr advertised supported peer curr_speed max_speed";

/// Structures that come as often as there is room, one after the other.
const REPEATED: &[&str] =
    &["ofp_table_stats", "ofp_port_stats", "ofp_queue_stats", "nx_tlv_map", "ofp_port", "ofp_meter_band"];
/// Those whose last field does so.
const LISTS: &[&str] =
    &["nx_action_cnt_ids", "nx_action_bundle.members", "ofp_hello_elem_versionbitmap", "nx_action_nat"];

/// What follows experimenter and type in an experimenter message.
fn experimenter(id: u64, kind: u64) -> &'static str {
    match (id, kind) {
        (0x2320, 16) => "format",
        (0x2320, 19) => ASYNC,
        (0x2320, 20) => "zeros controller_id",
        (0x2320, 24) => "command pad",
        (0x2320, 26) => "max_option_space max_fields reserved",
        (0x2320, 29) => "zeros zone_id",
        (0x2320, 32) => "ip_proto zeros",
        (0x4f4e_4600, 1870) => "id",
        _ => "data",
    }
}

/// What follows type and length of an instruction.
fn instruction(kind: u64) -> &'static str {
    match kind {
        1 => "table_id pad",
        2 => "pad metadata metadata_mask",
        6 => "meter_id",
        _ => "pad",
    }
}

/// What follows type and length of an action.
fn action(kind: u64) -> &'static str {
    match kind {
        0 => "port max_len pad",
        15 => "mpls_ttl pad",
        17 | 19 | 20 | 26 => "ethertype pad",
        21 => "queue_id",
        22 => "group_id",
        23 => "nw_ttl pad",
        0xffff => "experimenter data",
        _ => "pad",
    }
}

/// What follows the subtype of a Nicira action (`NXAST_*`).
fn nicira(subtype: u64) -> &'static str {
    match subtype {
        1 | 14 | 44 => "in_port table pad",
        2 => "pad tun_id",
        6 => "n_bits src_ofs dst_ofs src dst",
        7 => "ofs_nbits dst value",
        8 => "note",
        9 => "pad tun_id",
        10 => "fields basis pad algorithm max_link arg pad ofs_nbits dst",
        15 => "ofs_nbits src max_len zeros",
        19 => "fin_idle_timeout fin_hard_timeout zeros",
        20 => "max_len controller_id reason zeros",
        21 => "n_controllers zeros",
        27 | 28 => "offset field n_bits zeros",
        29 => "probability collector_set_id obs_domain_id obs_point_id",
        32 => "ofs_nbits max_len src zeros",
        34 => "clause n_clauses id",
        38 | 41 => "probability collector_set_id obs_domain_id obs_point_id sampling_port direction zeros",
        39 => "port max_len",
        47 => "pad new_pkt_type",
        49 => "pkt_len ofs dst pad",
        50 => "field pad",
        _ => "pad",
    }
}

/// What each read is: the structure and, where it is known, the field.
pub(super) fn names(bytes: &[u8], reads: &[Read]) -> Vec<String> {
    let mut walk =
        Walk { bytes, structure: "", fields: Vec::new(), next: 0, earlier: Vec::new(), field: None };
    reads.iter().map(|read| walk.name(*read)).collect()
}

struct Walk<'a> {
    bytes: &'a [u8],
    structure: &'static str,
    /// Fields of the structure, and which is next.
    fields: Vec<&'static str>,
    next: usize,
    /// Values that were read of it: they say what follows.
    earlier: Vec<u64>,
    /// The field whose header was the last.
    field: Option<String>,
}

impl Walk<'_> {
    fn value(&self, offset: usize, len: usize) -> u64 {
        self.bytes[offset..offset + len.min(8)].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn enter(&mut self, structure: &'static str) {
        let words = match structure {
            "OFPT_EXPERIMENTER" => "experimenter exp_type",
            "OFPT_ERROR" => "type code data",
            "ofp_multipart" => "type flags pad",
            "ofp_instruction" | "ofp_action" | "ofp_meter_band" => "type len",
            "nx_action" => "subtype",
            "property" => "type length",
            "oxm_fields" | "ofp_action_set_field" => "oxm_class oxm_field|hasmask oxm_length",
            "ofp_group_stats" => {
                "length pad group_id ref_count pad packet_count byte_count duration_sec duration_nsec"
            }
            "ofp_meter_stats" => {
                "meter_id len pad flow_count packet_in_count byte_in_count duration_sec duration_nsec"
            }
            "onf_flow_update" => "length event",
            "nx_action_learn" => {
                "idle_timeout hard_timeout priority cookie flags table_id pad fin_idle_timeout fin_hard_timeout"
            }
            known => STRUCTURES.iter().find(|(name, _)| *name == known).map_or("", |(_, fields)| fields),
        };
        self.structure = structure;
        self.fields = words.split_whitespace().collect();
        self.next = 0;
        self.earlier.clear();
    }

    /// Adds the fields that what was read says will follow.
    fn go_on(&mut self) {
        let message = self.bytes[1];
        let (structure, earlier) = (self.structure, &self.earlier);
        let words = match (structure, earlier.as_slice()) {
            ("OFPT_EXPERIMENTER", [id, kind]) => experimenter(*id, *kind),
            ("OFPT_ERROR", [0xffff, _]) => {
                self.fields.pop();
                "experimenter data"
            }
            ("ofp_instruction", [kind, _]) => instruction(*kind),
            ("ofp_action", [kind, _]) => action(*kind),
            ("ofp_meter_band", [2, _]) => "rate burst_size prec_level",
            ("ofp_meter_band", [_, _]) => "rate burst_size",
            ("nx_action", [subtype]) => nicira(*subtype),
            ("property", [_, _]) => "value",
            ("ofp_multipart", [kind, _, _]) => match (message, kind) {
                (_, 0xffff) => "experimenter exp_type",
                (18, 4) => "port_no pad",
                (18, 5) => "port_no queue_id",
                (18, 6) => "group_id pad",
                (18, 9 | 10) => "meter_id pad",
                _ => "",
            },
            ("onf_flow_update", [_, 3]) => "xid",
            ("onf_flow_update", [_, _]) => {
                "reason priority idle_timeout hard_timeout match_len table_id pad cookie"
            }
            ("oxm_fields" | "ofp_action_set_field", [0xffff, ..]) if earlier.len() == 3 => "experimenter",
            _ => "",
        };
        self.fields.extend(words.split_whitespace());
    }

    fn name(&mut self, (offset, len, structure): Read) -> String {
        let value = self.value(offset, len);
        if structure == "oxm_field" {
            return self.oxm_value();
        }
        let full = self.next >= self.fields.len();
        let starts_over = full
            && (REPEATED.contains(&structure)
                || matches!(structure, "oxm_fields" | "ofp_action" | "ofp_instruction" | "property"));
        if structure != self.structure || starts_over {
            self.enter(structure);
        }
        let name = match self.fields.get(self.next) {
            Some(name) => (*name).to_owned(),
            None => self.beyond(len),
        };
        self.next += 1;
        self.earlier.push(value);
        self.go_on();
        if matches!(structure, "oxm_fields" | "ofp_action_set_field")
            && let [class, field, ..] = self.earlier[..]
        {
            let experimenter = self.earlier.get(3).copied().unwrap_or(0);
            let known = Field::by_header(class as u16, (field >> 1) as u8, experimenter as u32);
            self.field = known.map(|field| field.name().to_owned());
        }
        format!("{structure} {name}")
    }

    /// After the last field: of a list the next one, of statistics the next pair of counters, else padding.
    fn beyond(&self, len: usize) -> String {
        let extra = self.next - self.fields.len();
        match self.structure {
            name if LISTS.contains(&name) => (*self.fields.last().unwrap_or(&"")).to_owned(),
            "ofp_group_stats" | "ofp_meter_stats" => {
                let kind = if self.structure == "ofp_group_stats" { "bucket" } else { "band" };
                let counter = if extra.is_multiple_of(2) { "packet_count" } else { "byte_count" };
                format!("{kind}[{}].{counter}", extra / 2)
            }
            "nx_action_learn" => "spec".to_owned(),
            _ if len == 0 => String::new(),
            _ => "pad".to_owned(),
        }
    }

    /// The value or, after it, the mask of a field.
    fn oxm_value(&mut self) -> String {
        let what = if self.structure == "oxm_field" { "mask" } else { "value" };
        self.structure = "oxm_field";
        self.fields.clear();
        match &self.field {
            Some(field) => format!("oxm {field} {what}"),
            None => format!("oxm {what}"),
        }
    }
}
