//! A table of typed columns, and its two forms: CSV by RFC 4180, and Parquet. A value that is not
//! there is an empty field, or null. Text is untrusted: a field of the CSV that a spreadsheet would
//! take for a formula begins with an apostrophe; Parquet has it as it is.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;

use crate::sink::no_formula;

/// The values of one column; all columns of a table have as many.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// UTF-8.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Count(Vec<Option<i64>>),
    /// float64.
    Number(Vec<Option<f64>>),
    /// float32: what the network says.
    Single(Vec<Option<f32>>),
}

/// A column and its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name. Untrusted where it comes from a bundle's labels.
    pub name: String,
    /// One value a row.
    pub values: Values,
}

/// Columns of one length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// In the order of the files.
    pub columns: Vec<Column>,
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Text(values) => values.len(),
            Values::Count(values) => values.len(),
            Values::Number(values) => values.len(),
            Values::Single(values) => values.len(),
        }
    }

    /// The shortest decimal that is the value again; empty where there is none.
    fn field(&self, row: usize) -> Cow<'_, str> {
        fn shown<T: std::fmt::Display>(value: Option<T>) -> Cow<'static, str> {
            value.map_or("".into(), |value| value.to_string().into())
        }
        match self {
            Values::Text(values) => values[row].as_deref().map_or("".into(), no_formula),
            Values::Count(values) => shown(values[row]),
            Values::Number(values) => shown(values[row].filter(|value| value.is_finite())),
            Values::Single(values) => shown(values[row].filter(|value| value.is_finite())),
        }
    }

    fn physical(&self) -> (Physical, Option<LogicalType>) {
        match self {
            Values::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Values::Count(_) => (Physical::INT64, None),
            Values::Number(_) => (Physical::DOUBLE, None),
            Values::Single(_) => (Physical::FLOAT, None),
        }
    }
}

impl Table {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// Writes a header and one line a row.
    ///
    /// # Errors
    /// Of the writer.
    pub fn write_csv(&self, to: impl Write) -> std::io::Result<()> {
        let mut writer = csv::Writer::from_writer(to);
        let write = |writer: &mut csv::Writer<_>, fields: Vec<Cow<'_, str>>| {
            writer.write_record(fields.iter().map(|field| field.as_bytes()))
        };
        write(&mut writer, self.columns.iter().map(|c| no_formula(&c.name)).collect())?;
        for row in 0..self.rows() {
            write(&mut writer, self.columns.iter().map(|c| c.values.field(row)).collect())?;
        }
        writer.flush()
    }

    /// Writes one row group with every column as optional.
    ///
    /// # Errors
    /// Of the writer.
    pub fn write_parquet(&self, to: impl Write + Send) -> Result<(), ParquetError> {
        let fields = self.columns.iter().map(|column| {
            let (physical, logical) = column.values.physical();
            let builder = Type::primitive_type_builder(&column.name, physical)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(logical);
            builder.build().map(Arc::new)
        });
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let schema = Type::group_type_builder("cohort").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut file = SerializedFileWriter::new(to, Arc::new(schema), Arc::new(properties))?;
        let mut group = file.next_row_group()?;
        for column in &self.columns {
            match &column.values {
                Values::Text(values) => write_column::<_, ByteArrayType>(
                    &mut group,
                    values.iter().map(|v| v.as_deref().map(ByteArray::from)),
                ),
                Values::Count(values) => {
                    write_column::<_, Int64Type>(&mut group, values.iter().copied())
                }
                Values::Number(values) => write_column::<_, DoubleType>(
                    &mut group,
                    values.iter().map(|value| value.filter(|v| v.is_finite())),
                ),
                Values::Single(values) => write_column::<_, FloatType>(
                    &mut group,
                    values.iter().map(|value| value.filter(|v| v.is_finite())),
                ),
            }?;
        }
        group.close()?;
        file.close().map(drop)
    }
}

/// Writes the next column: the values that are there, and which rows have one.
fn write_column<W: Write + Send, D: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: impl Iterator<Item = Option<D::T>>,
) -> Result<(), ParquetError> {
    let (mut present, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    let mut column = group
        .next_column()?
        .ok_or_else(|| ParquetError::General("more columns than the schema has".to_owned()))?;
    column.typed::<D>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    fn table() -> Table {
        let text = |text: &str| Some(text.to_owned());
        let column = |name: &str, values| Column { name: name.to_owned(), values };
        Table {
            columns: vec![
                column(
                    "recording",
                    Values::Text(vec![text("=cmd|' /C calc'!A0"), text("a,\"b\"\n")]),
                ),
                column("=1+1", Values::Count(vec![Some(-3), None])),
                column("tst_min", Values::Number(vec![Some(0.1), Some(f64::NAN)])),
                column("hazard_250.2", Values::Single(vec![None, Some(-0.1)])),
            ],
        }
    }

    #[test]
    fn fields_are_quoted_and_no_formulas() {
        let mut csv = Vec::new();
        table().write_csv(&mut csv).expect("written");
        let want = "recording,'=1+1,tst_min,hazard_250.2\n\
                    '=cmd|' /C calc'!A0,-3,0.1,\n\"a,\"\"b\"\"\n\",,,-0.1\n";
        assert_eq!(String::from_utf8(csv).expect("UTF-8"), want);
        assert_eq!(no_formula("-1"), "'-1");
        assert_eq!(no_formula("a=b"), "a=b");
    }

    #[test]
    fn parquet_has_types_and_nulls() {
        let mut file = tempfile::tempfile().expect("a file");
        table().write_parquet(&mut file).expect("written");
        let reader = SerializedFileReader::new(file).expect("a Parquet file");
        let rows: Vec<Vec<Field>> = reader
            .get_row_iter(None)
            .expect("rows")
            .map(|row| row.expect("a row").into_columns().into_iter().map(|(_, f)| f).collect())
            .collect();
        let text = |text: &str| Field::Str(text.to_owned());
        let want = [
            [text("=cmd|' /C calc'!A0"), Field::Long(-3), Field::Double(0.1), Field::Null],
            [text("a,\"b\"\n"), Field::Null, Field::Null, Field::Float(-0.1)],
        ];
        assert_eq!(rows, want);
    }

    #[test]
    fn a_table_without_rows_has_its_header() {
        let empty = Table {
            columns: vec![Column { name: "recording".to_owned(), values: Values::Text(vec![]) }],
        };
        let mut csv = Vec::new();
        empty.write_csv(&mut csv).expect("written");
        assert_eq!(csv, b"recording\n");
        let mut file = tempfile::tempfile().expect("a file");
        empty.write_parquet(&mut file).expect("written");
    }
}
